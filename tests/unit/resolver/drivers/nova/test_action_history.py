"""The instance actions of a server, from a cell's database."""

import datetime

from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import action_history
from external_events_router.resolver.drivers.nova import tables
from tests import base
from tests.unit.resolver.drivers.nova import cloud

A, B, IN_TWO, UNSCHEDULED = (f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 5))

START = datetime.datetime(2026, 1, 2, 3, 0, 0, tzinfo=datetime.UTC).timestamp()


def at(seconds):
    """Return a time as Nova stores it."""
    return datetime.datetime.fromtimestamp(START + seconds, datetime.UTC).replace(tzinfo=None)


class ActionHistoryTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = self.useFixture(cloud.Cloud())
        for name in ('one', 'two'):
            self.cloud.add_cell(name)
        self.cloud.add_instance(A, 'one')
        self.cloud.add_instance(B, 'one')
        self.cloud.add_instance(IN_TWO, 'two')
        self.cloud.add_instance(UNSCHEDULED, None)

    def add(self, name, start, finish=None, *, server=A, cell='one', **columns):
        return self.cloud.insert(
            self.cloud.cells[cell],
            tables.instance_actions,
            action=name,
            instance_uuid=server,
            request_id=f'req-{name}',
            start_time=at(start),
            finish_time=None if finish is None else at(finish),
            **columns,
        )

    def add_step(self, action, name, start, finish=None, *, cell='one', **columns):
        self.cloud.insert(
            self.cloud.cells[cell],
            tables.instance_actions_events,
            action_id=action,
            event=name,
            start_time=at(start),
            finish_time=None if finish is None else at(finish),
            **columns,
        )

    def read(self, server=A, since=0.0, until=1000.0):
        return action_history.read(self.cloud.conf, server, since=START + since, until=START + until)

    def test_action_ends_with_its_last_step(self):
        action = self.add('create', 0)
        self.add_step(action, 'compute__do_build_and_run_instance', 1, 301, host='one', result='Success')
        self.add_step(action, 'conductor_schedule', 0, 1, host='controller', result='Success')
        (found,) = self.read()
        self.assertEqual(
            ('create', 'req-create', START, START + 301, None),
            (found.name, found.request_id, found.started, found.finished, found.error),
        )
        self.assertEqual(['one', 'controller'], [step.host for step in found.steps])

    def test_error_is_the_error_of_the_step(self):
        action = self.add('create', 0, message='Error')
        self.add_step(action, 'compute__build', 1, 301, result='Error', details='Virtual Interface\nfailed')
        (found,) = self.read()
        self.assertEqual('compute__build: Virtual Interface?failed', found.error)

    def test_action_that_nova_marked_as_failed_without_a_step(self):
        self.add('reboot', 0, 5, message='Error')
        self.assertEqual('Nova recorded an error', self.read()[0].error)

    def test_action_with_a_running_step_has_not_ended(self):
        action = self.add('create', 0)
        self.add_step(action, 'schedule', 0, 1, result='Success')
        self.add_step(action, 'build', 1)
        self.assertIsNone(self.read()[0].finished)

    def test_only_actions_of_the_period_and_of_the_server(self):
        self.add('stop', 0, 10)
        self.add('start', 20, 40)
        self.add('reboot', 60, 70)
        self.add('resize', 20, 40, server=B)
        self.assertEqual(['start'], [action.name for action in self.read(since=30, until=50)])

    def test_only_the_cell_of_the_server_is_read(self):
        self.add('create', 0, server=IN_TWO, cell='two')
        self.assertEqual(['create'], [action.name for action in self.read(IN_TWO)])

    def test_server_without_a_cell_and_unknown_server_have_no_actions(self):
        self.assertEqual([], self.read(UNSCHEDULED))
        self.assertEqual([], self.read('00000009-0000-4000-8000-000000000000'))

    def test_unavailable_cell_is_reported(self):
        tables.cell.drop_all(self.cloud.cells['one'])
        self.assertRaises(exceptions.DatabaseUnavailable, self.read)
