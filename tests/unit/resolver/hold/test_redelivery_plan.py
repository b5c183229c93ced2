from external_events_router import events
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import redelivery_plan
from external_events_router.resolver.host_map import base as host_map_base
from tests import base as tests_base

SERVER = '11111111-1111-4111-8111-111111111111'
EXPIRED, REFUSED, GONE = base.State.EXPIRED, base.State.REFUSED, base.State.GONE


def claim(*remaining, acknowledged=(), attempts=0):
    """A claim with one event for each number of seconds until its deadline; their numbers start at 0."""
    held = [
        base.Held(
            seq=seq,
            event=events.Event('network-changed', SERVER, id=str(seq)),
            context={},
            remaining=seconds,
            acknowledged=frozenset(acknowledged),
        )
        for seq, seconds in enumerate(remaining)
    ]
    return base.Claim(SERVER, attempts, held)


def on(*hosts):
    return host_map_base.Lookup({SERVER: hosts})


def settle(plan, answers=None, **kwargs):
    """Answers by host and number of the event; each is a verdict or None."""
    results = {
        (host, str(seq)): host_answers.Answer(verdict, 'so')
        for (host, seq), verdict in (answers or {}).items()
    }
    return redelivery_plan.settle(plan, results, max_interval=kwargs.pop('max_interval', 10.0))


def handled(host, *seqs):
    return {(host, seq): events.Verdict.HANDLED for seq in seqs}


class PlanTest(tests_base.TestCase):
    def test_each_host_gets_unacknowledged_events_in_order(self):
        plan = redelivery_plan.plan(claim(9, 9, acknowledged=['a']), on('a', 'b'))
        self.assertEqual({'b': ['0', '1']}, self.sent(plan))
        plan = redelivery_plan.plan(claim(9, -1, 9), on('a', 'b'))
        self.assertEqual({'a': ['0', '2'], 'b': ['0', '2']}, self.sent(plan))
        self.assertEqual({1: EXPIRED}, {seq: state for seq, (state, _) in plan.ended.items()})

    def test_deleted_server(self):
        plan = redelivery_plan.plan(claim(9, 0), host_map_base.Lookup({}))
        self.assertEqual({}, self.sent(plan))
        self.assertEqual({0: GONE, 1: EXPIRED}, {seq: state for seq, (state, _) in plan.ended.items()})

    def test_no_event_is_sent_while_the_hosts_of_the_server_are_unknown(self):
        away = host_map_base.Lookup({}, frozenset({SERVER}), 'away')
        for lookup, hosts in ((away, None), (on(), frozenset())):
            plan = redelivery_plan.plan(claim(9, -1, acknowledged=['a']), lookup)
            self.assertEqual({}, self.sent(plan))
            settlement = settle(plan)
            # NOTE: one host has acknowledged it, and another host may still have to.
            self.assertEqual(frozenset(), settlement.delivered)
            self.assertEqual([1], list(settlement.ended))
            self.assertEqual(hosts, settlement.hosts)
            self.assertGreater(settlement.retry_after, 0)

    def sent(self, plan):
        return {host: [held.event.id for held in sent] for host, sent in plan.by_host().items()}


class SettleTest(tests_base.TestCase):
    def test_delivered_if_all_hosts_have_acknowledged(self):
        plan = redelivery_plan.plan(claim(9, 9), on('a', 'b'))
        settlement = settle(plan, {**handled('a', 0, 1), **handled('b', 0)})
        self.assertEqual(frozenset({0}), settlement.delivered)
        self.assertEqual({1: frozenset({'a'})}, settlement.acknowledged)
        self.assertEqual(frozenset({'b'}), settlement.hosts)
        settlement = settle(redelivery_plan.plan(claim(9, acknowledged=['a']), on('a', 'b')), handled('b', 0))
        self.assertEqual(
            (frozenset({0}), '', 0.0), (settlement.delivered, settlement.reason, settlement.retry_after)
        )

    def test_server_that_returned_to_a_host_with_acknowledged_events_is_delivered(self):
        settlement = settle(redelivery_plan.plan(claim(9, acknowledged=['a']), on('a')))
        self.assertEqual(frozenset({0}), settlement.delivered)

    def test_refusal_ends_only_its_event(self):
        plan = redelivery_plan.plan(claim(9, 9), on('a'))
        settlement = settle(plan, {**handled('a', 1), ('a', 0): events.Verdict.REFUSED})
        self.assertEqual({0: (REFUSED, 'a: so')}, settlement.ended)
        self.assertEqual(frozenset({1}), settlement.delivered)

    def test_event_of_an_absent_server_is_tried_again(self):
        settlement = settle(redelivery_plan.plan(claim(9), on('a')), {('a', 0): events.Verdict.NOT_HERE})
        self.assertEqual((frozenset(), {}), (settlement.delivered, settlement.ended))
        self.assertEqual('not on a', settlement.reason)
        beside_another = settle(
            redelivery_plan.plan(claim(9), on('a', 'b')),
            {('a', 0): events.Verdict.NOT_HERE, **handled('b', 0)},
        )
        self.assertEqual(frozenset({0}), beside_another.delivered)

    def test_intervals_double_up_to_the_maximum(self):
        found = [
            settle(redelivery_plan.plan(claim(9, attempts=attempts), on('a'))).retry_after
            for attempts in (0, 1, 2, 4, 5, 10_000)
        ]
        self.assertEqual([0.5, 1.0, 2.0, 8.0, 10.0, 10.0], found)
