"""Hosts that do not respond: one, many, and those that were only thought to."""

from external_events_router import exceptions
from external_events_router.resolver import answers
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import liveness
from tests import base
from tests.unit.agent import helpers

ACK_TIMEOUT = 2.0

HOSTS = [f'host-{number:02d}' for number in range(40)]


class Rounds:
    """What is waited for: host to since when."""

    def __init__(self, clock):
        self.clock = clock
        self.waits = {}
        self.failed = {}

    def wait_for(self, hosts):
        self.waits.update(dict.fromkeys(hosts, self.clock.now))

    def overdue(self, age):
        return [host for host, began in self.waits.items() if began <= self.clock.now - age]

    def in_flight(self):
        return list(self.waits)

    def fail(self, hosts, reason, *, age=0.0):
        for host in list(self.waits):
            if host in hosts and self.waits[host] <= self.clock.now - age:
                del self.waits[host]
                self.failed[host] = reason


class Queues:
    """Consumers of queues: one each, but where a test says otherwise; None: no such queue."""

    def __init__(self):
        self.counts = {}
        self.asked = []
        self.problem = None

    def consumers(self, hosts, *, timeout):
        self.asked.append(sorted(hosts))
        if self.problem:
            raise self.problem
        return {host: self.counts.get(host, 1) for host in hosts}

    def rest(self):
        pass

    def close(self):
        pass


class Signs:
    def __init__(self):
        self.back = []
        self.told = []

    def appeared(self, host):
        self.back.append(host)

    def tell_silent(self, hosts, *, unconsumed):
        self.told.append((sorted(hosts), unconsumed))

    def flush_log(self, *, now=False):
        pass


class LivenessCase(base.TestCase):
    with_queues = True
    with_rounds = True

    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.breakers = circuit_breaker.CircuitBreakers(clock=self.clock)
        self.rounds, self.queues, self.observer = Rounds(self.clock), Queues(), Signs()
        self.liveness = liveness.HostLiveness(
            self.breakers,
            self.observer,
            rounds=self.rounds if self.with_rounds else None,
            queues=self.queues if self.with_queues else None,
            ack_timeout=ACK_TIMEOUT,
            clock=self.clock,
        )

    def open(self):
        return [host for host in HOSTS if not self.breakers.closed([host])]

    def look(self, after):
        self.clock.now += after
        self.liveness.look()


class QueuesTest(LivenessCase):
    def test_nothing_is_asked_while_hosts_answer(self):
        self.rounds.wait_for(HOSTS)
        self.look(liveness.LOOK_AFTER - 0.1)
        self.assertEqual([], self.queues.asked)

    def test_one_silent_host_is_reason_to_look_at_all_that_are_waited_for(self):
        self.rounds.wait_for(HOSTS[:1])
        self.clock.now += liveness.LOOK_AFTER
        self.rounds.wait_for(HOSTS[1:3])
        self.queues.counts = {HOSTS[0]: 0, HOSTS[2]: 0}
        self.liveness.look()
        self.assertEqual([HOSTS[:3]], self.queues.asked)
        self.assertEqual({HOSTS[0]: liveness.NO_CONSUMER, HOSTS[2]: liveness.NO_CONSUMER}, self.rounds.failed)
        self.assertEqual([HOSTS[0], HOSTS[2]], self.open())
        self.assertEqual([([HOSTS[0], HOSTS[2]], True)], self.observer.told)
        # No batch tries them, however long it takes.
        self.clock.now += 100
        self.assertEqual(frozenset(), self.breakers.admit([HOSTS[0]]))

    def test_slow_host_is_looked_at_now_and_then_and_waited_for(self):
        self.rounds.wait_for(HOSTS[:1])
        for _ in range(10):
            self.look(liveness.LOOK_AFTER)
        self.assertEqual(2, len(self.queues.asked))
        self.assertEqual(({}, []), (self.rounds.failed, self.open()))

    def test_many_without_a_consumer_are_reason_to_look_at_all_hosts(self):
        for host in HOSTS:
            self.liveness.heard(host)
        self.clock.now += 1
        self.queues.counts = dict.fromkeys(HOSTS[:30], 0)
        self.rounds.wait_for(HOSTS[:12])
        self.look(liveness.LOOK_AFTER)
        self.assertEqual(HOSTS[:12], self.open())
        self.look(liveness.TICK)
        self.assertEqual(HOSTS[12:], self.queues.asked[1])
        self.assertEqual(HOSTS[:30], self.open())
        for _ in range(5):
            self.look(liveness.TICK)
        self.assertEqual(2, len(self.queues.asked))

    def test_consumer_that_is_back_is_a_sign_of_life(self):
        self.breakers.open(HOSTS[:2], unconsumed=True)
        self.queues.counts = {HOSTS[0]: 0}
        self.look(0.0)
        self.assertEqual([HOSTS[1]], self.observer.back)
        self.look(liveness.AGAIN - 0.1)
        self.assertEqual(1, len(self.queues.asked))
        self.look(0.2)
        self.assertEqual(2, len(self.queues.asked))

    def test_host_whose_queue_is_gone_may_be_tried(self):
        self.breakers.open(HOSTS[:1], unconsumed=True)
        self.queues.counts = {HOSTS[0]: None}
        self.look(0.0)
        self.assertEqual(frozenset(HOSTS[:1]), self.breakers.admit(HOSTS[:1]))
        self.assertEqual([], self.observer.back)

    def test_where_queues_cannot_be_looked_at_hosts_are_tried_again(self):
        self.breakers.open(HOSTS[:1], unconsumed=True)
        self.queues.problem = exceptions.BrokerUnavailable(reason='away')
        self.look(0.0)
        self.assertEqual(frozenset(HOSTS[:1]), self.breakers.admit(HOSTS[:1]))
        for _ in range(9):
            self.rounds.wait_for(HOSTS)
            self.look(liveness.LOOK_AFTER)
        self.assertEqual(1, len(self.queues.asked))
        self.assertEqual(1, self.logs.output.count('Could not check the queues of hosts'))

    def test_host_that_answers_meanwhile_is_there(self):
        self.rounds.wait_for(HOSTS[:1])
        self.clock.now += liveness.LOOK_AFTER

        def consumers(hosts, *, timeout):
            self.clock.now += 0.1
            self.liveness.heard(HOSTS[0])
            return {HOSTS[0]: 0}

        self.queues.consumers = consumers
        self.liveness.look()
        self.assertEqual([], self.open())


class SilenceTest(LivenessCase):
    with_queues = False

    def silence(self, hosts):
        """Hosts are silent for as long as one waits for them."""
        self.clock.now += ACK_TIMEOUT
        self.liveness.silent(dict.fromkeys(hosts, answers.NO_ACK))

    def test_single_hosts_make_no_suspects(self):
        for host in HOSTS:
            self.liveness.heard(host)
        self.silence(HOSTS[: liveness.MANY - 1])
        self.rounds.wait_for(HOSTS[20:])
        self.look(liveness.SUSPECT_WAIT)
        self.assertEqual({}, self.rounds.failed)

    def test_a_small_part_of_the_hosts_makes_no_suspects(self):
        hosts = [f'host-{number}' for number in range(200)]
        for _ in range(2):
            for host in hosts[20:]:
                self.liveness.heard(host)
            self.silence(hosts[:20])
        self.rounds.wait_for(['another'])
        self.look(liveness.SUSPECT_WAIT)
        self.assertEqual({}, self.rounds.failed)

    def test_many_that_are_silent_together_make_suspects_of_those_not_heard_since(self):
        for host in HOSTS:
            self.liveness.heard(host)
        self.clock.now += 10
        self.rounds.wait_for(HOSTS[:20])
        self.clock.now += 1
        self.liveness.heard(HOSTS[39])
        self.clock.now -= 1
        self.silence(HOSTS[:20])
        self.rounds.waits.clear()
        self.rounds.wait_for(HOSTS[20:])
        self.look(liveness.SUSPECT_WAIT - 0.1)
        self.assertEqual({}, self.rounds.failed)
        self.look(0.1)
        self.assertEqual(dict.fromkeys(HOSTS[20:39], liveness.SUSPECTED), self.rounds.failed)
        self.assertEqual([HOSTS[39]], self.rounds.in_flight())

    def test_suspicion_ends(self):
        self.silence(HOSTS[:20])
        self.clock.now += liveness.SUSPICION
        self.rounds.wait_for(HOSTS[20:])
        self.look(liveness.SUSPECT_WAIT)
        self.assertEqual({}, self.rounds.failed)

    def test_one_message_for_many(self):
        self.silence(HOSTS[:12])
        self.silence(HOSTS[12:20])
        self.liveness.silent({HOSTS[30]: 'no agent listens'})
        self.liveness.stop()
        lines = self.logs.output.splitlines()
        self.assertEqual(2, len(lines))
        self.assertIn(
            '20 hosts do not respond, for example host-00, host-01, host-02: '
            'no acknowledgement within 2 s; holding their events until they respond',
            lines[0],
        )
        self.assertIn('Host host-30 does not respond: the delivery failed', lines[1])
        self.assertEqual([HOSTS[:12], HOSTS[12:20], [HOSTS[30]]], [hosts for hosts, _ in self.observer.told])


class WithoutRoundsTest(LivenessCase):
    with_queues = with_rounds = False

    def test_suspects_are_not_waited_for_where_waits_cannot_be_ended(self):
        for host in HOSTS:
            self.liveness.heard(host)
        self.clock.now += 10
        self.liveness.heard(HOSTS[39])
        self.clock.now += 1
        self.liveness.silent(dict.fromkeys(HOSTS[:20], answers.NO_ACK))
        self.assertEqual(HOSTS[:39], self.open())
        self.liveness.look()


class HearsayTest(LivenessCase):
    def test_what_another_worker_says_is_believed_of_hosts_not_heard_just_now(self):
        self.clock.now += 100
        self.liveness.heard(HOSTS[0])
        self.rounds.wait_for(HOSTS[:3])
        self.liveness.told_silent(HOSTS[:2], unconsumed=True)
        self.assertEqual([HOSTS[1]], self.open())
        self.assertEqual({HOSTS[1]: liveness.NO_CONSUMER}, self.rounds.failed)
        self.assertEqual([HOSTS[1]], self.breakers.unconsumed())
        # It is not passed on, and not said twice.
        self.liveness.stop()
        self.assertEqual(([], ''), (self.observer.told, self.logs.output))


class HearsayWithoutQueuesTest(LivenessCase):
    with_queues = False

    def test_who_cannot_look_tries_the_host(self):
        self.liveness.told_silent(HOSTS[:1], unconsumed=True)
        self.clock.now += circuit_breaker.RESET
        self.assertEqual(frozenset(HOSTS[:1]), self.breakers.admit(HOSTS[:1]))
