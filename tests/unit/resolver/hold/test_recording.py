"""The steps that the journal records of attempts."""

from external_events_router import events
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import recording
from external_events_router.resolver.hold import redelivery_plan
from tests import base

SERVER = '00000000-0000-4000-8000-000000000001'
EVENT = events.Event('network-changed', SERVER, id='event-1')
HANDLED = host_answers.Answer(events.Verdict.HANDLED, at=1.0, handling=events.Handling(True, 5))
NOT_HERE = host_answers.Answer(events.Verdict.NOT_HERE)
MISSING = host_answers.Answer(None, host_answers.NO_ACK)


class TestAttempts(base.TestCase):
    def attempt(self, answers, *, remaining=60.0, attempts=2):
        held = hold_base.Held(1, EVENT, {}, remaining, frozenset())
        claim = hold_base.Claim(SERVER, attempts, [held])
        ended = {} if remaining > 0 else {1: redelivery_plan.EXPIRED}
        targets = {1: frozenset({'a', 'b'})} if remaining > 0 else {}
        attempted = redelivery_plan.Plan(claim, targets, ended)
        settlement = redelivery_plan.settle(attempted, answers, max_interval=10.0)
        steps = list(recording.attempts([attempted], answers, [settlement], worker='controller:0'))
        self.assertEqual({('event-1', SERVER, 3)}, {(s.event_id, s.server_uuid, s.attempt) for s in steps})
        return [(str(step.kind), step.host, step.detail, step.handling) for step in steps]

    def test_delivered(self):
        other = host_answers.Answer(events.Verdict.HANDLED, handling=events.Handling(False, handler='log'))
        found = self.attempt({('a', 'event-1'): other, ('b', 'event-1'): HANDLED})
        self.assertEqual([('delivered', 'b', None, HANDLED.handling)], found)

    def test_host_that_does_not_answer(self):
        found = self.attempt({('a', 'event-1'): HANDLED, ('b', 'event-1'): MISSING})
        self.assertEqual([('attempt', 'b', host_answers.NO_ACK, None)], found)

    def test_host_that_refuses(self):
        refused = host_answers.Answer(events.Verdict.REFUSED, 'no such volume')
        found = self.attempt({('a', 'event-1'): HANDLED, ('b', 'event-1'): refused})
        self.assertEqual([('refused', 'b', 'b: no such volume', None)], found)

    def test_expired(self):
        found = self.attempt({}, remaining=0.0)
        self.assertEqual([('expired', None, 'not acknowledged before its deadline', None)], found)

    def test_hosts_that_did_not_receive_the_event(self):
        held = hold_base.Held(1, EVENT, {}, 60.0, frozenset())
        attempted = redelivery_plan.Plan(hold_base.Claim(SERVER, 0, [held]), {1: frozenset({'a'})}, {})
        settlement = redelivery_plan.settle(attempted, {}, max_interval=10.0)
        self.assertEqual([], list(recording.attempts([attempted], {}, [settlement], worker='w')))
