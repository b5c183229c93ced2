"""Detection of hosts that do not respond: one host, many hosts, and hosts that are suspected wrongly."""

from external_events_router import exceptions
from external_events_router.resolver import answers
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.health import liveness
from tests import base
from tests.unit.agent import helpers

ACK_TIMEOUT = 2.0

HOSTS = [f'host-{number:02d}' for number in range(40)]


class Rounds:
    """The waits for acknowledgements: a dictionary of host to the time at which its wait began."""

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
    """Consumers of queues: one for each host unless the test sets another number; None means no queue."""

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
        self.informed = []

    def appeared(self, host):
        self.back.append(host)

    def announce_silent(self, hosts, *, unconsumed):
        self.informed.append((sorted(hosts), unconsumed))

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
    def test_queues_are_not_checked_while_hosts_answer(self):
        self.rounds.wait_for(HOSTS)
        self.look(liveness.LOOK_AFTER - 0.1)
        self.assertEqual([], self.queues.asked)

    def test_one_silent_host_makes_the_worker_check_all_hosts_with_a_wait(self):
        self.rounds.wait_for(HOSTS[:1])
        self.clock.now += liveness.LOOK_AFTER
        self.rounds.wait_for(HOSTS[1:3])
        self.queues.counts = {HOSTS[0]: 0, HOSTS[2]: 0}
        self.liveness.look()
        self.assertEqual([HOSTS[:3]], self.queues.asked)
        self.assertEqual({HOSTS[0]: liveness.NO_CONSUMER, HOSTS[2]: liveness.NO_CONSUMER}, self.rounds.failed)
        self.assertEqual([HOSTS[0], HOSTS[2]], self.open())
        self.assertEqual([([HOSTS[0], HOSTS[2]], True)], self.observer.informed)
        # No batch tries these hosts, no matter how much time passes.
        self.clock.now += 100
        self.assertEqual(frozenset(), self.breakers.admit([HOSTS[0]]))

    def test_slow_host_is_checked_at_intervals_and_waited_for(self):
        self.rounds.wait_for(HOSTS[:1])
        for _ in range(10):
            self.look(liveness.LOOK_AFTER)
        self.assertEqual(2, len(self.queues.asked))
        self.assertEqual(({}, []), (self.rounds.failed, self.open()))

    def test_many_hosts_without_a_consumer_make_the_worker_check_all_hosts(self):
        for host in HOSTS:
            self.liveness.responded(host)
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

    def test_consumer_that_returns_shows_that_the_host_responds(self):
        self.breakers.open(HOSTS[:2], unconsumed=True)
        self.queues.counts = {HOSTS[0]: 0}
        self.look(0.0)
        self.assertEqual([HOSTS[1]], self.observer.back)
        self.look(liveness.AGAIN - 0.1)
        self.assertEqual(1, len(self.queues.asked))
        self.look(0.2)
        self.assertEqual(2, len(self.queues.asked))

    def test_host_without_a_queue_may_be_tried(self):
        self.breakers.open(HOSTS[:1], unconsumed=True)
        self.queues.counts = {HOSTS[0]: None}
        self.look(0.0)
        self.assertEqual(frozenset(HOSTS[:1]), self.breakers.admit(HOSTS[:1]))
        self.assertEqual([], self.observer.back)

    def test_hosts_are_tried_again_if_queues_cannot_be_checked(self):
        self.breakers.open(HOSTS[:1], unconsumed=True)
        self.queues.problem = exceptions.BrokerUnavailable(reason='away')
        self.look(0.0)
        self.assertEqual(frozenset(HOSTS[:1]), self.breakers.admit(HOSTS[:1]))
        for _ in range(9):
            self.rounds.wait_for(HOSTS)
            self.look(liveness.LOOK_AFTER)
        self.assertEqual(1, len(self.queues.asked))
        self.assertEqual(1, self.logs.output.count('Could not check the queues of hosts'))

    def test_host_that_answers_during_the_check_is_not_reported(self):
        self.rounds.wait_for(HOSTS[:1])
        self.clock.now += liveness.LOOK_AFTER

        def consumers(hosts, *, timeout):
            self.clock.now += 0.1
            self.liveness.responded(HOSTS[0])
            return {HOSTS[0]: 0}

        self.queues.consumers = consumers
        self.liveness.look()
        self.assertEqual([], self.open())


class SilenceTest(LivenessCase):
    with_queues = False

    def silence(self, hosts):
        """Hosts become silent while batches wait for them."""
        self.clock.now += ACK_TIMEOUT
        self.liveness.silent(dict.fromkeys(hosts, answers.NO_ACK))

    def test_single_silent_hosts_raise_no_suspicion(self):
        for host in HOSTS:
            self.liveness.responded(host)
        self.silence(HOSTS[: liveness.MANY - 1])
        self.rounds.wait_for(HOSTS[20:])
        self.look(liveness.SUSPECT_WAIT)
        self.assertEqual({}, self.rounds.failed)

    def test_small_part_of_the_hosts_raises_no_suspicion(self):
        hosts = [f'host-{number}' for number in range(200)]
        for _ in range(2):
            for host in hosts[20:]:
                self.liveness.responded(host)
            self.silence(hosts[:20])
        self.rounds.wait_for(['another'])
        self.look(liveness.SUSPECT_WAIT)
        self.assertEqual({}, self.rounds.failed)

    def test_many_hosts_silent_at_the_same_time_are_suspected_unless_they_answered_since(self):
        for host in HOSTS:
            self.liveness.responded(host)
        self.clock.now += 10
        self.rounds.wait_for(HOSTS[:20])
        self.clock.now += 1
        self.liveness.responded(HOSTS[39])
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

    def test_many_silent_hosts_are_one_log_message(self):
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
        self.assertEqual(
            [HOSTS[:12], HOSTS[12:20], [HOSTS[30]]], [hosts for hosts, _ in self.observer.informed]
        )


class WithoutRoundsTest(LivenessCase):
    with_queues = with_rounds = False

    def test_suspected_hosts_are_not_waited_for_if_waits_cannot_be_ended(self):
        for host in HOSTS:
            self.liveness.responded(host)
        self.clock.now += 10
        self.liveness.responded(HOSTS[39])
        self.clock.now += 1
        self.liveness.silent(dict.fromkeys(HOSTS[:20], answers.NO_ACK))
        self.assertEqual(HOSTS[:39], self.open())
        self.liveness.look()


class ReportOfAnotherWorkerTest(LivenessCase):
    def test_report_of_another_worker_applies_to_hosts_that_did_not_just_respond(self):
        self.clock.now += 100
        self.liveness.responded(HOSTS[0])
        self.rounds.wait_for(HOSTS[:3])
        self.liveness.silence_announced(HOSTS[:2], unconsumed=True)
        self.assertEqual([HOSTS[1]], self.open())
        self.assertEqual({HOSTS[1]: liveness.NO_CONSUMER}, self.rounds.failed)
        self.assertEqual([HOSTS[1]], self.breakers.unconsumed())
        # It is not reported to other workers, and not logged a second time.
        self.liveness.stop()
        self.assertEqual(([], ''), (self.observer.informed, self.logs.output))


class ReportOfAnotherWorkerWithoutQueuesTest(LivenessCase):
    with_queues = False

    def test_host_is_tried_if_queues_cannot_be_checked(self):
        self.liveness.silence_announced(HOSTS[:1], unconsumed=True)
        self.clock.now += circuit_breaker.RESET
        self.assertEqual(frozenset(HOSTS[:1]), self.breakers.admit(HOSTS[:1]))
