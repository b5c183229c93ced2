import threading
import time
from unittest import mock

from external_events_router import events
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.drivers.agent import acks
from tests import base
from tests.unit.resolver import agents

SERVER = '11111111-1111-4111-8111-111111111111'


def delivery(number, count=1):
    return events.Delivery(
        id=f'delivery-{number}',
        reply_to='worker',
        deadline=time.time() + 60,
        events=tuple(events.Event('network-changed', SERVER, id=f'{number}.{n}') for n in range(count)),
    )


def handled(*event_ids):
    return [events.Result(event_id, events.Verdict.HANDLED) for event_id in event_ids]


class CollectorTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.collector = acks.Collector()

    def soon(self, waiting):
        """Return the duration of the wait in seconds; it can be as long as a minute."""
        began = time.monotonic()
        waiting.wait(began + 60)
        return time.monotonic() - began

    def test_wait_ends_with_the_last_acknowledgement(self):
        with agents.expect(self.collector, {'a': delivery(1, 2), 'b': delivery(2)}) as waiting:
            self.collector.acknowledge('delivery-1', handled('1.0'))
            self.collector.acknowledge('delivery-2', handled('2.0'))
            late = threading.Timer(0.05, self.collector.acknowledge, ('delivery-1', handled('1.1')))
            late.start()
            self.addCleanup(late.join)
            self.assertLess(self.soon(waiting), 30)
            for host, event_id in (('a', '1.0'), ('a', '1.1'), ('b', '2.0')):
                self.assertEqual(events.Verdict.HANDLED, waiting.wait(0)[host, event_id].verdict)

    def test_deadline_ends_the_wait_and_keeps_the_received_acknowledgements(self):
        with agents.expect(self.collector, {'a': delivery(1, 2)}) as waiting:
            self.collector.acknowledge('delivery-1', handled('1.1'))
            began = time.monotonic()
            waiting.wait(began + 0.05)
            self.assertGreaterEqual(time.monotonic() - began, 0.05)
            self.assertIsNone(waiting.wait(0)['a', '1.0'].verdict)
            self.assertEqual(host_answers.NO_ACK, waiting.wait(0)['a', '1.0'].reason)
            self.assertEqual(events.Verdict.HANDLED, waiting.wait(0)['a', '1.1'].verdict)

    def test_failed_host_is_not_waited_for(self):
        with agents.expect(self.collector, {'a': delivery(1, 2), 'b': delivery(2)}) as waiting:
            waiting.fail('a', 'no queue')
            self.collector.acknowledge('delivery-2', handled('2.0'))
            self.assertLess(self.soon(waiting), 30)
            self.assertEqual('no queue', waiting.wait(0)['a', '1.0'].reason)

    def test_acknowledgement_after_a_failure_to_publish_changes_nothing(self):
        with agents.expect(self.collector, {'a': delivery(1)}) as waiting:
            waiting.fail('a', 'no queue')
            self.collector.acknowledge('delivery-1', handled('1.0'))
            self.assertIsNone(waiting.wait(0)['a', '1.0'].verdict)

    def test_first_acknowledgement_of_a_host_is_used(self):
        with agents.expect(self.collector, {'a': delivery(1)}) as waiting:
            self.collector.acknowledge('delivery-1', [events.Result('1.0', events.Verdict.REFUSED, 'no')])
            self.collector.acknowledge('delivery-1', handled('1.0'))
            self.assertEqual(events.Verdict.REFUSED, waiting.wait(0)['a', '1.0'].verdict)

    def test_first_acknowledgement_in_one_message_is_used(self):
        with agents.expect(self.collector, {'a': delivery(1)}) as waiting:
            refused = events.Result('1.0', events.Verdict.REFUSED, 'no')
            self.collector.acknowledge('delivery-1', [refused, *handled('1.0')])
            self.assertEqual(events.Verdict.REFUSED, waiting.wait(0)['a', '1.0'].verdict)

    def test_host_cannot_acknowledge_for_another_host(self):
        with agents.expect(self.collector, {'a': delivery(1), 'b': delivery(2)}) as waiting:
            self.collector.acknowledge('delivery-1', handled('2.0'))
            self.assertIsNone(waiting.wait(0)['b', '2.0'].verdict)
            # It also cannot use the id of a delivery that was sent to the other host.
            self.collector.acknowledge('delivery-2', handled('2.0'), sender='a')
            self.assertIsNone(waiting.wait(0)['b', '2.0'].verdict)
            self.collector.acknowledge('delivery-2', handled('2.0'), sender='b')
            self.assertEqual(events.Verdict.HANDLED, waiting.wait(0)['b', '2.0'].verdict)

    def test_unknown_late_and_repeated_acknowledgements_are_dropped(self):
        with agents.expect(self.collector, {'a': delivery(1)}):
            self.collector.acknowledge('delivery-1', handled('1.0', '1.0', 'never heard of'))
        self.collector.acknowledge('delivery-1', handled('1.0'))
        self.collector.acknowledge('delivery-9', handled('9.0'))

    def test_lost_connection_immediately_fails_every_round_in_flight(self):
        with (
            agents.expect(self.collector, {'a': delivery(1, 2), 'b': delivery(2)}) as first,
            agents.expect(self.collector, {'a': delivery(3)}) as second,
        ):
            self.collector.acknowledge('delivery-1', handled('1.0'))
            self.collector.disconnected('reset by peer')
            for waiting in (first, second):
                self.assertLess(self.soon(waiting), 30)
            answers = {**first.wait(0), **second.wait(0)}
            self.assertEqual(events.Verdict.HANDLED, answers.pop(('a', '1.0')).verdict)
            self.assertEqual(3, len(answers))
            for answer in answers.values():
                self.assertIsNone(answer.verdict)
                self.assertEqual('the connection to the broker was lost: reset by peer', answer.reason)

    def test_new_round_without_a_connection_fails_immediately(self):
        self.collector.disconnected('no route')
        self.collector.disconnected('refused')
        self.assertFalse(self.collector.is_connected())
        with agents.expect(self.collector, {'a': delivery(1)}) as waiting:
            self.assertTrue(waiting.abandoned)
            self.assertIn('refused', waiting.wait(time.monotonic() + 60)['a', '1.0'].reason)
        self.collector.connected()
        self.assertTrue(self.collector.is_connected())
        with agents.expect(self.collector, {'a': delivery(2)}) as waiting:
            self.assertFalse(waiting.abandoned)
            self.collector.acknowledge('delivery-2', handled('2.0'))
            self.assertEqual(events.Verdict.HANDLED, waiting.wait(0)['a', '2.0'].verdict)

    def test_acknowledgement_after_a_lost_connection_shows_that_the_host_responds(self):
        observer = agents.Observer()
        with agents.expect(self.collector, {'a': delivery(1)}) as waiting:
            self.collector.disconnected('reset by peer')
            self.collector.acknowledge('delivery-1', handled('1.0'), sender='a', observer=observer)
            self.assertIsNone(waiting.wait(0)['a', '1.0'].verdict)
        self.collector.acknowledge('delivery-1', handled('1.0'), sender='a', observer=observer)
        self.assertEqual(['a', 'a'], observer.late_hosts)
        ((server, result),) = observer.late_results
        self.assertEqual((delivery(1).events[0].server_uuid, '1.0'), (server, result.event_id))
        self.assertEqual({'a': waiting.began}, observer.began)

    def test_each_acknowledgement_is_in_time_or_late(self):
        """Also if it arrives while the round ends."""
        observer, deliveries = agents.Observer(), {'a': delivery(1)}
        waiting = self.collector.begin(deliveries)
        acknowledge = waiting.acknowledge

        def interrupted(host, results):
            self.answers = self.collector.end(deliveries, waiting)
            return acknowledge(host, results)

        waiting.acknowledge = interrupted
        self.collector.acknowledge('delivery-1', handled('1.0'), sender='a', observer=observer)
        self.assertIsNone(self.answers['a', '1.0'].verdict)
        self.assertEqual(['a'], observer.late_hosts)
        self.assertEqual(1, len(observer.late_results))

    def test_observer_that_fails_does_not_affect_the_acknowledgement(self):
        observer = mock.Mock(responded=mock.Mock(side_effect=ZeroDivisionError))
        with agents.expect(self.collector, {'a': delivery(1)}) as waiting:
            self.collector.acknowledge('delivery-1', handled('1.0'), observer=observer)
            self.assertEqual(events.Verdict.HANDLED, waiting.wait(0)['a', '1.0'].verdict)

    def test_nothing_is_remembered_after_the_block(self):
        for number in range(10):
            with agents.expect(self.collector, {'a': delivery(number)}):
                pass
        self.assertEqual({}, self.collector._waiting)


class OverdueTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.collector = acks.Collector()

    def test_overdue_hosts_have_not_acknowledged_for_some_time(self):
        self.assertEqual([], self.collector.overdue(0.0))
        with agents.expect(self.collector, {'a': delivery(1), 'b': delivery(2)}):
            self.collector.acknowledge('delivery-2', handled('2.0'))
            self.assertEqual(['a'], self.collector.overdue(0.0))
            self.assertEqual([], self.collector.overdue(60.0))
            self.assertEqual(['a', 'b'], self.collector.in_flight())

    def test_failing_hosts_ends_only_the_waits_for_these_hosts(self):
        with (
            agents.expect(self.collector, {'a': delivery(1), 'b': delivery(2)}) as one,
            agents.expect(self.collector, {'a': delivery(3), 'c': delivery(4)}) as two,
        ):
            self.collector.fail({'a'}, 'no consumer', age=60.0)
            self.assertEqual(['a', 'b', 'c'], sorted(self.collector.overdue(0.0)))
            self.collector.fail({'a', 'b'}, 'no consumer')
            began = time.monotonic()
            answers = one.wait(began + 60)
            self.assertLess(time.monotonic() - began, 30)
            self.assertEqual({'no consumer'}, {answer.reason for answer in answers.values()})
            answers = two.wait(0)
            self.assertEqual(
                ['no consumer', host_answers.NO_ACK],
                [answers[key].reason for key in (('a', '3.0'), ('c', '4.0'))],
            )
