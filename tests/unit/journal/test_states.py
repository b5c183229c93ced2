"""The state of an event, in one word."""

from external_events_router.journal import reasons
from external_events_router.journal import states
from tests import base
from tests.unit.journal import histories as h

State = states.State


class StatesTest(base.TestCase):
    def test_events_that_were_not_held(self):
        expected = {reason: State.FAILED for reason in reasons.Reason if reason not in reasons.HELD} | {
            reasons.Reason.ACKNOWLEDGED: State.DELIVERED,
            reasons.Reason.HANDED_TO_BROKER: State.DELIVERED,
            reasons.Reason.HANDLER_FAILED: State.REFUSED,
        }
        self.assertEqual(expected, {reason: states.state(h.event(reason=reason), ()) for reason in expected})

    def test_held_events_have_the_state_of_their_last_step(self):
        event = h.event(10, 'held_no_queue')
        for steps, expected in (
            ((), State.HELD),
            ((h.step(11, 'attempt'),), State.HELD),
            ((h.step(11, 'attempt'), h.step(12, 'delivered')), State.DELIVERED),
            ((h.step(12, 'expired'), h.step(13, 'held')), State.HELD),
            ((h.step(12, 'expired'), h.step(13, 'late_ack')), State.EXPIRED),
            ((h.step(12, 'refused'),), State.REFUSED),
            ((h.step(12, 'gone'),), State.GONE),
            ((h.step(12, 'damaged'),), State.DAMAGED),
            ((h.step(12, 'dropped'),), State.DROPPED),
            ((h.step(5, 'dropped'),), State.HELD),
        ):
            self.assertEqual(expected, states.state(event, steps), steps)

    def test_reasons_of_a_state_include_those_of_its_events(self):
        for reason in reasons.Reason:
            state = states.state(h.event(reason=reason), ())
            self.assertIn(reason, states.REASONS[state])
        self.assertEqual(set(State), states.REASONS.keys())
