from external_events_router import events
from external_events_router.resolver import plan
from external_events_router.resolver.host_map import base
from tests import base as tests_base

ONE = '11111111-1111-4111-8111-111111111111'
TWO = '22222222-2222-4222-8222-222222222222'


def lookup(hosts=None, unavailable=(), **more):
    return base.Lookup(hosts=hosts or {}, unavailable=frozenset(unavailable), **more)


class ByHostTest(tests_base.TestCase):
    def decide(self, event, **found):
        made = plan.by_host([event], lookup(**found))
        return made.decided.get(event.id), made.by_host

    def test_events_are_grouped_by_host_in_the_order_of_the_batch(self):
        first, second = events.Event('network-changed', ONE), events.Event('network-vif-plugged', TWO)
        third = events.Event('network-changed', ONE)
        made = plan.by_host([first, second, third], lookup({ONE: ('host-a',), TWO: ('host-b', 'host-a')}))
        self.assertEqual({}, made.decided)
        self.assertEqual({'host-a': [first, second, third], 'host-b': [second]}, made.by_host)
        hosts = {first.id: ('host-a',), second.id: ('host-b', 'host-a'), third.id: ('host-a',)}
        self.assertEqual(hosts, made.hosts)

    def test_host_without_an_event_to_send_is_left_out(self):
        first, second = events.Event('network-changed', ONE), events.Event('network-changed', TWO)
        made = plan.by_host([first, second], lookup({ONE: ('host-a',), TWO: ('host-b', 'host-a')}))
        self.assertEqual(made.by_host, made.without({}))
        skipped = {('host-a', first.id), ('host-b', second.id)}
        self.assertEqual({'host-a': [second]}, made.without(skipped))

    def test_later_plan_adds_hosts_and_outcomes(self):
        moved, deleted = events.Event('network-changed', ONE), events.Event('network-changed', TWO)
        first = plan.by_host([moved, deleted], lookup({ONE: ('host-a',), TWO: ('host-a',)}))
        final = first.extended(plan.by_host([moved, deleted], lookup({ONE: ('host-b', 'host-a')})))
        self.assertEqual({moved.id: ('host-a', 'host-b'), deleted.id: ('host-a',)}, final.hosts)
        self.assertEqual(events.Code.NO_SUCH_SERVER, final.decided[deleted.id].code)

    def test_unknown_server_is_404_whatever_its_tag(self):
        for name in ('network-changed', 'volume-extended'):
            outcome, by_host = self.decide(events.Event(name, ONE))
            self.assertEqual(events.Code.NO_SUCH_SERVER, outcome.code)
            self.assertEqual({}, by_host)

    def test_invalid_tag_is_400_even_without_a_host(self):
        for hosts in ((), ('host-a',)):
            outcome, by_host = self.decide(events.Event('power-update', ONE, tag='ON'), hosts={ONE: hosts})
            self.assertEqual(events.Code.BAD_TAG, outcome.code)
            self.assertIn('POWER_ON', outcome.reason)
            self.assertEqual({}, by_host)

    def test_server_on_no_host_is_422(self):
        outcome, _ = self.decide(events.Event('network-changed', ONE), hosts={ONE: ()})
        self.assertEqual(events.Code.NO_HOST, outcome.code)

    def test_server_that_cannot_be_looked_up_is_503_with_the_reason(self):
        outcome, _ = self.decide(
            events.Event('network-changed', ONE), unavailable=[ONE], reason='database away'
        )
        self.assertEqual(events.Outcome(outcome.event, events.Code.UNDELIVERED, 'database away'), outcome)

    def test_reason_of_a_single_server(self):
        outcome, _ = self.decide(
            events.Event('network-changed', ONE), unavailable=[ONE, TWO], reasons={ONE: 'its cell is away'}
        )
        self.assertEqual('its cell is away', outcome.reason)
