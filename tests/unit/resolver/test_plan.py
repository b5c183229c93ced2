from external_events_router import events
from external_events_router.resolver import plan
from external_events_router.resolver.host_map import base
from tests import base as tests_base

ONE = '11111111-1111-4111-8111-111111111111'
TWO = '22222222-2222-4222-8222-222222222222'

HANDLED = plan.Answer(events.Verdict.HANDLED)
NOT_HERE = plan.Answer(events.Verdict.NOT_HERE)
REFUSED = plan.Answer(events.Verdict.REFUSED, 'broken')
SILENT = plan.Answer(None, 'no acknowledgement in time')


def lookup(hosts=None, unavailable=(), **more):
    return base.Lookup(hosts=hosts or {}, unavailable=frozenset(unavailable), **more)


class ByHostTest(tests_base.TestCase):
    def decide(self, event, **found):
        made = plan.by_host({0: event}, lookup(**found))
        return made.decided.get(0), made.by_host

    def test_groups_by_host_in_the_order_of_the_batch(self):
        changed = events.Event('network-changed', ONE)
        plugged = events.Event('network-vif-plugged', TWO)
        made = plan.by_host(
            dict(enumerate([changed, plugged, changed])),
            lookup({ONE: ('host-a',), TWO: ('host-b', 'host-a')}),
        )
        self.assertEqual({}, made.decided)
        self.assertEqual({'host-a': [0, 1, 2], 'host-b': [1]}, made.by_host)

    def test_unknown_server_is_404_whatever_its_tag(self):
        for name in ('network-changed', 'volume-extended'):
            outcome, by_host = self.decide(events.Event(name, ONE))
            self.assertEqual(events.Code.NO_SUCH_SERVER, outcome.code)
            self.assertEqual({}, by_host)

    def test_bad_tag_is_400_even_without_a_host(self):
        for hosts in ((), ('host-a',)):
            outcome, by_host = self.decide(events.Event('power-update', ONE, tag='ON'), hosts={ONE: hosts})
            self.assertEqual(events.Code.BAD_TAG, outcome.code)
            self.assertIn('POWER_ON', outcome.reason)
            self.assertEqual({}, by_host)

    def test_server_on_no_host_is_422(self):
        outcome, _ = self.decide(events.Event('network-changed', ONE), hosts={ONE: ()})
        self.assertEqual(events.Code.NO_HOST, outcome.code)

    def test_server_that_cannot_be_looked_up_is_503_and_names_the_reason(self):
        outcome, _ = self.decide(
            events.Event('network-changed', ONE), unavailable=[ONE], reason='database away'
        )
        self.assertEqual(events.Outcome(outcome.event, events.Code.UNDELIVERED, 'database away'), outcome)

    def test_a_server_may_have_a_reason_of_its_own(self):
        outcome, _ = self.decide(
            events.Event('network-changed', ONE), unavailable=[ONE, TWO], reasons={ONE: 'its cell is away'}
        )
        self.assertEqual('its cell is away', outcome.reason)


class OutcomeTest(tests_base.TestCase):
    def code(self, **answers):
        return plan.outcome_of(events.Event('network-changed', ONE), answers).code

    def test_every_mixture_of_two_hosts(self):
        for first, second, code in (
            (HANDLED, HANDLED, 200),
            (HANDLED, NOT_HERE, 200),
            (HANDLED, SILENT, 503),
            (HANDLED, REFUSED, 500),
            (NOT_HERE, NOT_HERE, 422),
            (NOT_HERE, SILENT, 503),
            (NOT_HERE, REFUSED, 500),
            (SILENT, SILENT, 503),
            (SILENT, REFUSED, 500),
            (REFUSED, REFUSED, 500),
        ):
            self.assertEqual(code, self.code(a=first, b=second), (first, second))
            self.assertEqual(code, self.code(a=second, b=first), (second, first))

    def test_reason_names_the_host(self):
        outcome = plan.outcome_of(
            events.Event('network-changed', ONE), {'host-a': HANDLED, 'host-b': REFUSED}
        )
        self.assertEqual('host-b: broken', outcome.reason)
