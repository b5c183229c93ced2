"""The instance actions that are recorded in the database of a cell."""

import sqlalchemy as sa

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import actions
from external_events_router.resolver.drivers.nova import tables
from tests import base
from tests.unit.db import databases
from tests.unit.resolver.drivers.nova import cloud

A, B = (f'{number:08x}-0000-4000-8000-000000000000' for number in (1, 2))


class ActionsTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.cloud = self.useFixture(cloud.Cloud())
        self.cloud.add_cell('one')
        self.database = databases.database(self.cloud.url('one'))
        self.addCleanup(self.database.close)

    def record(self, name, tag, server=A, request='req-one'):
        ctxt = context.RequestContext(
            request_id=request, user_id='a user', project_id='a project', overwrite=False
        )
        actions.record(self.database, events.Event(name, server, tag), ctxt)

    def rows(self):
        with self.cloud.cells['one'].connect() as connection:
            return connection.execute(sa.select(tables.instance_actions)).all()

    def test_action_and_its_step_are_inserted(self):
        self.record('volume-extended', 'a volume')
        (row,) = self.rows()
        self.assertEqual(
            ('extend_volume', A, 'req-one', 'a user', 'a project', 0),
            (row.action, row.instance_uuid, row.request_id, row.user_id, row.project_id, row.deleted),
        )
        self.assertIsNotNone(row.start_time)
        self.assertEqual({row.start_time}, {row.created_at, row.updated_at})

    def test_action_is_recorded_once_for_each_request_and_server(self):
        for _ in range(2):
            self.record('power-update', 'POWER_ON')
        self.record('power-update', 'POWER_OFF')
        self.record('power-update', 'POWER_ON', B)
        self.record('power-update', 'POWER_ON', request='req-two')
        found = [(row.action, row.instance_uuid, row.request_id) for row in self.rows()]
        self.assertEqual(
            [
                ('start', A, 'req-one'),
                ('stop', A, 'req-one'),
                ('start', B, 'req-one'),
                ('start', A, 'req-two'),
            ],
            found,
        )

    def test_events_without_an_action_are_not_recorded(self):
        for name in events.EVENT_TYPES:
            if name not in ('volume-extended', 'power-update'):
                self.record(name, 'a tag')
        self.assertEqual([], self.rows())

    def test_unavailable_database(self):
        tables.cell.drop_all(self.cloud.cells['one'])
        self.assertRaises(exceptions.DatabaseUnavailable, self.record, 'volume-extended', 'a volume')
