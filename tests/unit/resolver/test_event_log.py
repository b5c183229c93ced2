"""The lines about single events."""

from external_events_router import context
from external_events_router import events
from external_events_router.resolver import answers
from external_events_router.resolver import event_log
from tests import base

ONE = '00000001-0000-4000-8000-000000000000'
CONTEXT = context.RequestContext(request_id='req-own', global_request_id='req-sender', overwrite=False)
KEPT = {'request_id': 'req-own', 'global_request_id': 'req-sender'}

COMMON = 'request req-own, sender request req-sender'

HANDLED = answers.Answer(events.Verdict.HANDLED)
SILENT = answers.Answer(None, 'no acknowledgement')


def event(number, tag='port\n1'):
    return events.Event('network-vif-plugged', ONE, tag, id=f'event-{number}')


class EventLogTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.log = event_log.EventLog()

    def lines(self):
        return [line.partition('event_log: ')[2] for line in self.logs.output.splitlines()]

    def test_batch(self):
        outcomes = [
            events.Outcome(event(0), events.Code.DELIVERED),
            events.Outcome(event(1), events.Code.DELIVERED, 'held: b: no acknowledgement'),
            events.Outcome(event(2, None), events.Code.NO_SUCH_SERVER, 'no such server'),
        ]
        self.log.batch(
            CONTEXT,
            outcomes,
            {('a', 'event-0'): HANDLED, ('a', 'event-1'): HANDLED, ('b', 'event-1'): SILENT},
        )
        self.assertEqual(
            [
                f"Event held: network-vif-plugged of server {ONE}, tag 'port\\n1', host b, {COMMON}, "
                "event event-1: 'b: no acknowledgement'",
                f'Event answered 404: network-vif-plugged of server {ONE}, tag None, host -, {COMMON}, '
                "event event-2: 'no such server'",
            ],
            self.lines(),
        )

    def test_held_events_that_end(self):
        self.log.late(event(1), KEPT, hosts={'b', 'a'}, attempt=3, age=4.25)
        self.log.ended(event(2), {}, state='expired', hosts=(), reason='too late')
        late, expired = self.lines()
        self.assertTrue(late.startswith('Event delivered late: '), late)
        self.assertTrue(
            late.endswith(f"host a, b, {COMMON}, event event-1: 'held for 4.2 s, attempt 3'"), late
        )
        self.assertTrue(expired.startswith('Event answered 200 and expired: '), expired)
        self.assertIn('host -, request -, sender request -', expired)
        self.assertEqual(
            [' INFO ', ' WARNING '],
            [
                level
                for line in self.logs.output.splitlines()
                for level in (' INFO ', ' WARNING ')
                if level in line
            ],
        )
