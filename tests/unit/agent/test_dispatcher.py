import collections
import threading
import time
from unittest import mock

import hypothesis
from hypothesis import strategies

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import clock
from external_events_router.agent import deduplicator
from external_events_router.agent import dispatcher
from external_events_router.agent import handlers
from external_events_router.agent import sources
from external_events_router.agent import waiters
from external_events_router.concurrency import keyed_pool
from external_events_router.metrics import recorder
from tests import base
from tests import generated
from tests.unit.agent import helpers

HANDLED, NOT_HERE, REFUSED = events.Verdict.HANDLED, events.Verdict.NOT_HERE, events.Verdict.REFUSED

#: The number of a server, and the number of one of its events.
SERVER_AND_EVENT = strategies.tuples(strategies.integers(0, 3), strategies.integers(0, 12))


class Source(sources.NoSource):
    answer = frozenset()

    def servers(self, host):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Host:
    """A dispatcher and the objects that it uses."""

    def __init__(self, *, source=None, threads=4, **pool):
        self.acks = helpers.Acks()
        self.clock = clock.ResolverClock()
        self.acker = helpers.make_acker(self.acks, resolver_clock=self.clock)
        self.pool = keyed_pool.KeyedPool(threads, **pool)
        self.waiters = waiters.Waiters()
        self.handlers = handlers.Handlers()
        self.ctxt = context.for_service()
        self.dispatcher = dispatcher.Dispatcher(
            'a',
            pool=self.pool,
            results=self.acker,
            resolver_clock=self.clock,
            waiting=self.waiters,
            handling=self.handlers,
            source=source or sources.NoSource(),
            memory=deduplicator.Deduplicator(),
        )

    def receive(self, *batch, **kwargs):
        delivery = helpers.delivery(*batch, **kwargs)
        self.dispatcher.receive(context.Deferred(None, self.ctxt), delivery)
        return delivery

    def finish(self):
        assert self.dispatcher.drain(helpers.PATIENCE) == 0
        assert self.acker.flush(helpers.PATIENCE)

    def verdict(self, event):
        self.receive(event)
        self.finish()
        return self.acks.verdicts().get(event.id)

    def handling_of(self, event):
        return {result.event_id: result.handling for result in self.acks.results()}[event.id]

    def close(self):
        self.pool.stop(helpers.PATIENCE)
        self.acker.stop(helpers.PATIENCE)


class TestDispatcher(base.TestCase):
    def setUp(self):
        super().setUp()
        self.called = []

    def _host(self, **kwargs):
        host = Host(**kwargs)
        self.addCleanup(host.close)
        return host

    def _record(self, ctxt, event):
        self.called.append(event)

    def _blocker(self, host, name='network-changed'):
        """A handler that blocks until the returned event is set."""
        release, entered = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        def block(ctxt, event):
            entered.set()
            release.wait(helpers.PATIENCE)

        host.handlers.on(name, block)
        return entered, release

    def test_event_without_handler_or_waiter_is_handled(self):
        host = self._host()
        self.assertEqual(HANDLED, host.verdict(helpers.event()))
        self.assertIn(
            f'No handler and no waiting thread for network-changed of server {helpers.SERVER}',
            self.logs.output,
        )

    def test_handler_receives_the_event(self):
        host = self._host()
        host.handlers.on('network-changed', self._record)
        event = helpers.event()
        self.assertEqual(HANDLED, host.verdict(event))
        self.assertEqual([event], self.called)
        self.assertIn('1 events in', self.logs.output)
        self.assertIn(': 1 handled', self.logs.output)

    def test_details_of_the_handling_are_reported(self):
        host = self._host()

        @host.handlers.on('network-vif-plugged')
        def refuse(ctxt, event):
            raise exceptions.Refused(reason='no')

        host.handlers.on('volume-extended', handlers.LogHandler())
        for name, expected in (
            ('network-changed', events.NOT_HANDLED),
            ('network-vif-plugged', (False, None, 'refuse')),
            ('volume-extended', (False, None, 'LogHandler')),
        ):
            event = helpers.event(name, tag='t')
            host.verdict(event)
            handling = host.handling_of(event)
            if expected is events.NOT_HANDLED:
                self.assertIs(expected, handling)
                continue
            self.assertEqual(expected[:2], (handling.waiter, handling.wait_ms))
            self.assertTrue(handling.handler.endswith(expected[2]), handling.handler)
            self.assertLess(handling.handler_ms, 10_000)
        with host.waiters.expect(helpers.SERVER, [('volume-extended', 't'), ('network-changed', None)]):
            event, other = helpers.event('volume-extended', tag='t'), helpers.event()
            host.verdict(event)
            host.verdict(other)
        for sent, handler in ((event, 'LogHandler'), (other, None)):
            handling = host.handling_of(sent)
            self.assertEqual((True, handler), (handling.waiter, handling.handler))

    def test_log_counts_the_results_of_a_delivery(self):
        host = self._host()

        @host.handlers.on('*')
        def handle(ctxt, event):
            if event.tag is not None:
                raise exceptions.Refused(reason='no')

        event = helpers.event()
        host.receive(event, helpers.event(tag='t'), event)
        host.finish()
        self.assertRegex(self.logs.output, r'3 events in .*: 1 handled, 1 refused, 1 repeated')

    def test_handler_receives_the_request_context(self):
        host = self._host()
        seen_ids = []
        host.handlers.on('*', lambda ctxt, event: seen_ids.append(context.context.get_current().request_id))
        host.verdict(helpers.event())
        self.assertEqual([host.ctxt.request_id], seen_ids)

    def test_waiter_without_handler_receives_the_event(self):
        host = self._host()
        event = helpers.event()
        with host.waiters.expect(helpers.SERVER, [('network-changed', None)]) as expected:
            self.assertEqual(HANDLED, host.verdict(event))
            self.assertEqual({('network-changed', None): event}, expected.wait(0))
        self.assertNotIn('Nothing waits', self.logs.output)

    def test_waiter_and_handler_both_receive_the_event(self):
        host = self._host()
        host.handlers.on('network-changed', self._record)
        event = helpers.event()
        with host.waiters.expect(helpers.SERVER, [('network-changed', None)]) as expected:
            host.verdict(event)
            expected.wait(0)
        self.assertEqual([event], self.called)

    def test_handler_may_wait_for_its_own_server(self):
        host = self._host(threads=1)
        got = []

        @host.handlers.on('network-changed')
        def handle(ctxt, event):
            with host.waiters.expect(event.server_uuid, [('network-vif-plugged', 'p')]) as expected:
                waiting.set()
                got.append(expected.wait(helpers.PATIENCE))

        waiting = threading.Event()
        host.receive(helpers.event())
        self.assertTrue(waiting.wait(helpers.PATIENCE))
        host.receive(helpers.event('network-vif-plugged', tag='p'))
        host.finish()
        self.assertEqual(1, len(got))

    def test_server_that_the_source_does_not_have_is_not_here(self):
        host = self._host(source=Source())
        host.handlers.on('*', self._record)
        self.assertEqual(NOT_HERE, host.verdict(helpers.event()))
        self.assertEqual([], self.called)

    def test_server_that_the_source_has_is_handled(self):
        source = Source()
        source.answer = frozenset([helpers.SERVER])
        self.assertEqual(HANDLED, self._host(source=source).verdict(helpers.event()))

    def test_event_is_handled_if_the_source_fails(self):
        source = Source()
        source.answer = ZeroDivisionError()
        self.assertEqual(HANDLED, self._host(source=source).verdict(helpers.event()))

    def test_waiter_receives_an_event_of_an_absent_server(self):
        host = self._host(source=Source())
        host.handlers.on('*', self._record)
        with host.waiters.expect(helpers.SERVER, [('network-changed', None)]) as expected:
            self.assertEqual(HANDLED, host.verdict(helpers.event()))
            expected.wait(0)
        self.assertEqual([], self.called)

    def test_refused_event_reaches_its_waiter(self):
        host = self._host()
        host.handlers.on('*', lambda ctxt, event: REFUSED)
        with host.waiters.expect(helpers.SERVER, [('network-changed', None)]):
            self.assertEqual(REFUSED, host.verdict(helpers.event()))

    def test_repeated_event_is_acknowledged_again_and_handled_once(self):
        host = self._host()
        host.handlers.on('*', self._record)
        event = helpers.event()
        first = host.receive(event)
        host.finish()
        with host.waiters.expect(helpers.SERVER, [('network-changed', None)]) as expected:
            second = host.receive(event)
            host.finish()
            self.assertEqual({}, expected.arrived)
        self.assertEqual([first.id, second.id], [delivery_id for delivery_id, _results in host.acks.casts])
        self.assertEqual([event], self.called)

    def test_event_without_handler_is_acknowledged_immediately(self):
        """It is acknowledged although no task of the pool ends after it."""
        host = self._host()
        event = helpers.event()
        with host.waiters.expect(helpers.SERVER, [('network-changed', None)]):
            host.receive(event)
        for number in (1, 2):
            helpers.wait_until(lambda number=number: len(host.acks.casts) == number)
            host.receive(event)

    def test_repeated_event_in_progress_acknowledges_both_deliveries(self):
        host = self._host()
        entered, release = self._blocker(host)
        event = helpers.event()
        first = host.receive(event)
        self.assertTrue(entered.wait(helpers.PATIENCE))
        second = host.receive(event)
        self.assertEqual([], host.acks.casts)
        release.set()
        host.finish()
        self.assertEqual({first.id, second.id}, {delivery_id for delivery_id, _results in host.acks.casts})

    def test_event_of_an_absent_server_is_tried_again(self):
        source = Source()
        host = self._host(source=source)
        event = helpers.event()
        self.assertEqual(NOT_HERE, host.verdict(event))
        source.answer = frozenset([helpers.SERVER])
        self.assertEqual(HANDLED, host.verdict(event))

    def test_late_delivery_is_not_handled(self):
        host = self._host()
        host.handlers.on('*', self._record)
        event = helpers.event()
        host.receive(event, helpers.event(), seconds=-1)
        host.finish()
        self.assertIn(': 2 late', self.logs.output)
        self.assertEqual(([], []), (self.called, host.acks.casts))
        self.assertIn(
            f'WARNING MainThread {dispatcher.__name__}: Events arrived after their deadline', self.logs.output
        )
        self.assertEqual(HANDLED, host.verdict(event))

    def test_deadline_is_compared_with_the_clock_of_the_resolver(self):
        host = self._host()
        host.clock.note(host.clock.now() + 100, asked=host.clock.start_reading())
        self.assertIsNone(host.verdict(helpers.event()))

    def test_event_that_becomes_late_in_the_queue_is_not_handled(self):
        host = self._host()
        entered, release = self._blocker(host)
        host.handlers.on('*', self._record)
        first, second, third = helpers.event(), helpers.event(), helpers.event()
        host.receive(first)
        self.assertTrue(entered.wait(helpers.PATIENCE))
        host.receive(second, third, seconds=50)
        host.receive(third, seconds=200)
        host.clock.note(host.clock.now() + 100, asked=host.clock.start_reading())
        release.set()
        host.finish()
        # The third delivery repeats the event with a later deadline.
        self.assertEqual([first, third], self.called)
        self.assertEqual({first.id, third.id}, host.acks.verdicts().keys())
        self.assertRegex(self.logs.output, r'2 events in .*: 1 handled, 1 late')

    def test_results_are_not_delayed_by_slow_events(self):
        host = self._host()
        entered, release = self._blocker(host)
        slow, quick = helpers.event(), helpers.event('power-update', server=helpers.OTHER_SERVER)
        host.receive(slow, quick)
        helpers.wait_until(lambda: host.acks.verdicts() == {quick.id: HANDLED})
        self.assertTrue(entered.is_set())
        release.set()
        host.finish()
        self.assertEqual({slow.id, quick.id}, host.acks.verdicts().keys())

    def test_event_is_dropped_if_the_queue_is_full(self):
        host = self._host(threads=1, max_queued_per_key=1)
        entered, release = self._blocker(host)
        host.receive(helpers.event())
        self.assertTrue(entered.wait(helpers.PATIENCE))
        waits, dropped = helpers.event(), helpers.event()
        host.receive(waits, dropped)
        self.assertIn('Too many events wait; dropping network-changed', self.logs.output)
        release.set()
        host.finish()
        self.assertNotIn(dropped.id, host.acks.verdicts())
        self.assertEqual(HANDLED, host.verdict(dropped))

    def test_event_does_not_overtake_an_event_that_was_dropped(self):
        """Events behind a dropped event are dropped too, even if the queue has room again."""
        host = self._host()
        first, second, third = (helpers.event(tag=str(number)) for number in range(3))
        host.handlers.on('*', self._record)
        submit, tried = host.pool.submit, []

        def full_at_the_second(key, task):
            tried.append(key)
            return len(tried) != 2 and submit(key, task)

        host.pool.submit = full_at_the_second
        host.receive(first, second, third)
        host.finish()
        self.assertEqual([first], self.called)
        self.assertEqual({first.id: HANDLED}, host.acks.verdicts())

    def test_event_does_not_overtake_an_event_of_an_absent_server(self):
        """The server arrives between two events of one delivery."""
        host = self._host()
        first, second, other = helpers.event(), helpers.event(), helpers.event(server=helpers.OTHER_SERVER)
        arrived = []

        @host.handlers.on('*')
        def handle(ctxt, event):
            self.called.append(event)
            if event == first and not arrived:
                arrived.append(True)
                return NOT_HERE
            return HANDLED

        host.receive(first, second, other)
        host.finish()
        self.assertCountEqual([first, other], self.called)
        self.assertEqual({first.id: NOT_HERE, second.id: NOT_HERE, other.id: HANDLED}, host.acks.verdicts())
        host.receive(first, second)
        host.finish()
        self.assertEqual([first, second], self.called[-2:])

    def test_drain_ends_at_its_timeout(self):
        host = self._host()
        entered, _release = self._blocker(host)
        host.receive(helpers.event())
        self.assertTrue(entered.wait(helpers.PATIENCE))
        self.assertEqual(1, host.dispatcher.drain(0.01))

    def test_drain_returns_the_number_of_unfinished_events(self):
        host = self._host()
        entered, _release = self._blocker(host)
        host.handlers.on('power-update', self._record)
        host.receive()
        other = helpers.event('power-update', server=helpers.OTHER_SERVER)
        host.receive(other, helpers.event(), helpers.event())
        host.receive(helpers.event())
        self.assertTrue(entered.wait(helpers.PATIENCE))
        helpers.wait_until(lambda: host.acks.verdicts() == {other.id: HANDLED})
        self.assertEqual(3, host.dispatcher.drain(0.01))

    def test_drain_does_not_wait_for_an_event_that_ended_with_an_exception(self):
        """A handler can raise an exception that the pool does not catch."""
        host = self._host()
        host.handlers.on('*', mock.Mock(side_effect=KeyboardInterrupt))
        host.receive(helpers.event())
        self.assertEqual(0, host.dispatcher.drain(helpers.PATIENCE))
        self.assertIn(': 1 failed', self.logs.output)

    @generated.examples(20)
    @hypothesis.given(
        deliveries=strategies.lists(
            strategies.lists(
                strategies.tuples(strategies.integers(0, 3), strategies.integers(0, 12)), max_size=8
            ),
            max_size=12,
        )
    )
    def test_events_of_a_server_are_handled_once_and_in_order(self, deliveries):
        """Any deliveries, sent twice: each event is handled once, in the order of its first arrival."""
        host = Host(threads=3)
        lock, handled = threading.Lock(), collections.defaultdict(list)

        @host.handlers.on('*')
        def handle(ctxt, event):
            with lock:
                handled[event.server_uuid].append(event.id)

        expected = collections.defaultdict(list)
        sent = set()
        for batch in deliveries:
            made = [
                events.Event('network-changed', f'server-{server}', id=f'{server}-{number}')
                for server, number in batch
            ]
            for event in made:
                if event.id not in expected[event.server_uuid]:
                    expected[event.server_uuid].append(event.id)
            delivery = host.receive(*made)
            sent.update((delivery.id, event.id) for event in made)
        host.finish()
        host.close()
        self.assertEqual(expected, handled)
        acknowledged = {
            (delivery_id, result.event_id) for delivery_id, results in host.acks.casts for result in results
        }
        self.assertEqual(sent, acknowledged)


class MessagesTest(base.TestCase):
    def test_hosts_of_a_process_share_the_limit_of_messages_about_late_deliveries(self):
        messages = dispatcher.bounded_messages()
        for number in range(50):
            made = dispatcher.Dispatcher(
                f'host-{number}',
                pool=None,
                results=None,
                resolver_clock=clock.ResolverClock(),
                waiting=waiters.Waiters(),
                handling=handlers.Handlers(),
                source=sources.NoSource(),
                memory=deduplicator.Deduplicator(),
                messages=messages,
            )
            late = events.Event('network-changed', helpers.SERVER)
            made.receive(
                context.Deferred(None), events.Delivery(f'{number}', 'worker', time.time() - 60, (late,))
            )
        messages.flush(now=True)
        self.assertEqual(
            dispatcher.MESSAGES + 1, self.logs.output.count(' WARNING ') + self.logs.output.count(' INFO ')
        )
        self.assertIn('more messages about events were not written', self.logs.output)


class WithoutThreadTest(base.TestCase):
    """Events for which nothing is called end on the thread that receives them."""

    def setUp(self):
        super().setUp()
        self.host = Host(threads=1)
        self.addCleanup(self.host.close)

    def test_event_without_handler_uses_no_thread(self):
        self.host.receive(helpers.event(), helpers.event(server=helpers.OTHER_SERVER))
        with self.host.waiters.expect(helpers.SERVER, [('network-changed', 't')]) as expected:
            self.host.receive(helpers.event(), helpers.event(tag='t'))
            self.assertEqual(1, len(expected.arrived))
        # The end of a wait is remembered.
        self.host.receive(late := helpers.event(tag='t'))
        self.assertEqual(0, self.host.pool.threads)
        self.host.finish()
        self.assertEqual([HANDLED] * 5, list(self.host.acks.verdicts().values()))
        self.assertLess(self.host.handling_of(late).wait_ms, 1)

    def test_results_of_a_delivery_are_sent_together(self):
        batch = [helpers.event() for _ in range(5)]
        delivery = self.host.receive(*batch)
        self.host.finish()
        ((delivery_id, results),) = self.host.acks.casts
        self.assertEqual(delivery.id, delivery_id)
        self.assertEqual([event.id for event in batch], [result.event_id for result in results])

    def test_repeated_event_gets_its_first_result(self):
        event, again = helpers.event(), helpers.event()
        self.host.handlers.on('network-changed', mock.Mock(side_effect=exceptions.Refused(reason='no')))
        self.host.verdict(event)
        self.host.handlers = self.host.dispatcher._handling = handlers.Handlers()
        self.host.receive(event, again, again)
        self.host.finish()
        verdicts = [result.verdict for result in self.host.acks.results()]
        self.assertEqual([REFUSED, REFUSED, HANDLED, HANDLED], verdicts)
        self.assertRegex(self.logs.output, '3 events in .*: 1 handled, 2 repeated')

    def test_event_does_not_overtake_an_event_with_a_handler(self):
        release, entered = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        @self.host.handlers.on('network-changed')
        def block(ctxt, event):
            entered.set()
            release.wait(helpers.PATIENCE)

        first, second = helpers.event(), helpers.event('network-vif-plugged')
        self.host.receive(first)
        self.assertTrue(entered.wait(helpers.PATIENCE))
        self.host.receive(second)
        self.assertEqual([], self.host.acks.casts)
        release.set()
        self.host.finish()
        self.assertEqual([first.id, second.id], [result.event_id for result in self.host.acks.results()])

    def test_event_of_a_host_with_a_source_uses_a_thread(self):
        """A source is a plug-in, which may take some time."""
        host = Host(source=Source())
        self.addCleanup(host.close)
        self.assertEqual(NOT_HERE, host.verdict(helpers.event()))

    def test_delivery_is_counted(self):
        with mock.patch.object(recorder, 'current', autospec=True) as current:
            self.host.receive(helpers.event(), helpers.event())
        current().agent_delivery_ended.assert_called_once_with({HANDLED: 2}, seconds=0.0)
