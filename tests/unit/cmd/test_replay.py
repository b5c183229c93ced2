"""``external-events-manage replay``: what is sent, and the exit status."""

import argparse
import contextlib
import io
import types

import fixtures

from external_events_router import events
from external_events_router import exceptions
from external_events_router.cmd.manage import replay
from external_events_router.cmd.manage import times
from tests import base
from tests.unit.journal import histories as h

COMMAND = 'external_events_router.cmd.manage.replay'
OPERATION = 'external_events_router.operations.replay'

CONF = types.SimpleNamespace(
    host='controller',
    delivery=types.SimpleNamespace(event_ttl=300.0, event_ttls={}, hold_unassigned=0.0, ack_timeout=5.0),
)


class Resolver:
    """Answers as a resolver; the clock of the command moves with each request."""

    def __init__(self, case):
        self._case = case
        self.sent = []

    def replay(self, _ctxt, batch, *, actor, ack_timeout, timeout):
        self._case.instant += self._case.seconds
        code = self._case.codes.pop(0)
        if code is None:
            raise exceptions.ResolverUnavailable(reason='no answer')
        self.sent += [event.id for event in batch]
        return [events.Outcome(event, events.Code(code)) for event in batch]


class ReplayTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.rows = [h.event(10, event_id='one'), h.event(20, event_id='two', request=h.request(seq=2))]
        self.codes, self.instant, self.seconds = [200, 200], 0.0, 0.0
        self.done = types.SimpleNamespace(number=0)
        self.resolver, self.errors = Resolver(self), io.StringIO()
        reader = types.SimpleNamespace(
            now=lambda: h.at(300), events=lambda _selection, _period, limit: self.rows
        )
        opened = types.SimpleNamespace(reader=reader, now=lambda: h.at(300) / 1e6)
        for name, value in (
            (f'{COMMAND}.journal.opened', lambda _command: opened),
            (f'{COMMAND}.actions.recording', lambda _command: self.recording),
            (f'{OPERATION}.resolver', lambda _conf: contextlib.nullcontext(self.resolver)),
            (f'{OPERATION}.time', types.SimpleNamespace(monotonic=lambda: self.instant)),
        ):
            self.useFixture(fixtures.MonkeyPatch(name, value))

    @contextlib.contextmanager
    def recording(self, _action, _chosen):
        yield self.done

    def replay(self, *, yes=True, force=False):
        """Return the exit status, and the row of the result."""
        command = replay.Replay(types.SimpleNamespace(conf=CONF, stderr=self.errors), None)
        arguments = argparse.Namespace(
            server=None, host='host-a', name=[], since=times.Moment('1h'), dry_run=False, force=force, yes=yes
        )
        made = []

        def produce(_arguments, columns, rows):
            made.extend(dict(zip(columns, row, strict=True)) for row in rows)
            return 0

        self.useFixture(fixtures.MockPatchObject(command, 'produce_output', produce))
        self.useFixture(fixtures.MockPatchObject(command, '_setup_formatter', lambda *_: None, create=True))
        columns, rows = command.take_action(arguments)
        produce(arguments, columns, rows)
        self.useFixture(
            fixtures.MonkeyPatch('external_events_router.cmd.manage.app.Lister.run', lambda *_: 0)
        )
        return command.run(arguments), made[0]

    def test_all_are_delivered(self):
        status, row = self.replay()
        self.assertEqual((0, ['one', 'two'], 2), (status, self.resolver.sent, row['delivered']))

    def test_one_is_not_delivered(self):
        self.codes = [200, 503]
        status, row = self.replay()
        self.assertEqual((3, 1, 1), (status, row['delivered'], row['not_delivered']))

    def test_operator_does_not_agree(self):
        self.useFixture(fixtures.MonkeyPatch(f'{COMMAND}.Replay._confirmed', lambda *_: False))
        self.assertEqual((1, []), (self.replay(yes=False)[0], self.resolver.sent))

    def test_deadline_passes_while_others_are_sent(self):
        self.seconds = 25.0
        status, row = self.replay()
        self.assertEqual((0, ['one'], 1, 1), (status, self.resolver.sent, row['sent'], row['late']))
        self.codes = [200, 200]
        self.assertEqual(2, self.replay(force=True)[1]['sent'])

    def test_resolver_that_does_not_answer(self):
        self.codes = [200, None]
        self.assertRaises(exceptions.ResolverUnavailable, self.replay)
        self.assertIn('Sent 1 of 2 events before the error\n', self.errors.getvalue())
        self.assertEqual(1, self.done.number)
