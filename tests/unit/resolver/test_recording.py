"""The reasons of codes that the journal records."""

import time

from external_events_router import events
from external_events_router import exceptions
from external_events_router.journal import reasons
from external_events_router.journal import recorder
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver import recording
from external_events_router.resolver.health import liveness
from tests import base

SERVER = '00000000-0000-4000-8000-000000000001'
EVENT = events.Event('network-changed', SERVER, id='event-1')
HANDLED = host_answers.Answer(events.Verdict.HANDLED, at=1.0, handling=events.Handling(True, 5))
NOT_HERE = host_answers.Answer(events.Verdict.NOT_HERE)
MISSING = host_answers.Answer(None, host_answers.NO_ACK)


class TestReason(base.TestCase):
    def check(self, expected, code, results, reason='held: because', **kwargs):
        outcome = events.Outcome(EVENT, code, reason)
        found = recording.reason_of(outcome, results, **kwargs)
        self.assertIs(expected, found)
        self.assertIs(code, reasons.CODES[found])

    def test_delivered(self):
        self.check(reasons.Reason.ACKNOWLEDGED, events.Code.DELIVERED, {'a': HANDLED}, None)
        handed = reasons.Reason.HANDED_TO_BROKER
        self.check(handed, events.Code.DELIVERED, {'a': HANDLED}, None, delivered=handed)

    def test_held(self):
        unreachable = str(exceptions.HostUnreachable(host='node-1'))
        for answer, expected in (
            (MISSING, reasons.Reason.HELD_SILENT_HOST),
            (host_answers.Answer(None, host_answers.NOT_WAITED_FOR), reasons.Reason.HELD_SILENT_HOST),
            (host_answers.Answer(None, liveness.SUSPECTED), reasons.Reason.HELD_SILENT_HOST),
            (host_answers.Answer(None, liveness.NO_CONSUMER), reasons.Reason.HELD_NO_QUEUE),
            (host_answers.Answer(None, unreachable), reasons.Reason.HELD_NO_QUEUE),
            (host_answers.Answer(None, 'x', asked=False), reasons.Reason.HELD_BROKER_UNAVAILABLE),
            (host_answers.Answer(None, host_answers.NOT_SENT, asked=False), reasons.Reason.HELD_OTHER),
            (host_answers.Answer(None, liveness.NO_CONSUMER, asked=False), reasons.Reason.HELD_NO_QUEUE),
            (host_answers.Answer(None, host_answers.BEHIND), reasons.Reason.HELD_BEHIND),
            (host_answers.Answer(None, 'the instance could not be read'), reasons.Reason.HELD_OTHER),
            (NOT_HERE, reasons.Reason.HELD_MAP_UNAVAILABLE),
        ):
            self.check(expected, events.Code.DELIVERED, {'a': HANDLED, 'b': answer})
        self.check(reasons.Reason.HELD_UNASSIGNED, events.Code.DELIVERED, {})

    def test_not_delivered(self):
        self.check(reasons.Reason.NO_HOST, events.Code.NO_HOST, {})
        self.check(reasons.Reason.NOT_ON_HOST, events.Code.NO_HOST, {'a': NOT_HERE})
        self.check(reasons.Reason.NOT_HELD, events.Code.UNDELIVERED, {'a': MISSING})
        self.check(reasons.Reason.MAP_UNAVAILABLE, events.Code.UNDELIVERED, {})
        self.check(reasons.Reason.UNKNOWN_SERVER, events.Code.NO_SUCH_SERVER, {})
        self.check(reasons.Reason.BAD_TAG, events.Code.BAD_TAG, {})
        refused = host_answers.Answer(events.Verdict.REFUSED)
        self.check(reasons.Reason.HANDLER_FAILED, events.Code.REFUSED, {'a': refused})


class Taken(recorder.Nothing):
    """Stores the rows that it receives."""

    def __init__(self):
        self.refusals, self.gaps = [], []

    def refused(self, refusal):
        self.refusals.append(refusal)

    def missed(self, number, *, seconds):
        self.gaps.append(number)


class TestRefusals(base.TestCase):
    GOOD = {
        'status': 401,
        'reason': 'not_authenticated',
        'detail': 'no token',
        'servers': ['a'],
        'age_ms': 2000,
    }

    def test_valid_refusal(self):
        taken, now = Taken(), time.monotonic()
        recording.record_refusals(taken, [self.GOOD])
        (refusal,) = taken.refusals
        self.assertEqual(
            (401, 'no token', ['a'], None), (refusal.status, refusal.detail, refusal.servers, refusal.user_id)
        )
        self.assertAlmostEqual(now - 2.0, refusal.since, delta=1.0)
        self.assertEqual([], taken.gaps)

    def test_invalid_refusals_are_left_out(self):
        taken = Taken()
        invalid = [
            None,
            7,
            {},
            *(
                {**self.GOOD, name: value}
                for name, value in (
                    ('status', '401'),
                    ('status', -1),
                    ('reason', 'unknown'),
                    ('reason', []),
                    ('detail', 7),
                    ('servers', 'a'),
                    ('servers', [7]),
                    ('age_ms', True),
                    ('age_ms', 2**40),
                    ('user_id', 'x' * 5000),
                )
            ),
        ]
        recording.record_refusals(taken, [*invalid, self.GOOD], dropped=3)
        self.assertEqual(1, len(taken.refusals))
        self.assertEqual([3], taken.gaps)
