"""Each event has exactly one end in an agent, whatever raises an exception.

An event without a result can be sent again.
"""

import collections
import contextlib
import time

import fixtures
import hypothesis
from hypothesis import strategies

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import acker as ackers
from external_events_router.agent import clock
from external_events_router.agent import deduplicator
from external_events_router.agent import dispatcher
from external_events_router.agent import handlers
from external_events_router.agent import sources
from tests import base
from tests import generated
from tests.unit import exactly_once
from tests.unit.agent import test_acker

SERVERS = ('11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222')
CONTEXT = context.Deferred(None, context.RequestContext(overwrite=False))


class Client:
    """A client that reports the end of a cast late, twice or never, and can also raise exceptions."""

    def __init__(self, faults):
        self._faults = faults
        self.sent = []
        self.waiting = []

    def acknowledge_all(self, reply_to, acknowledgements, done):
        results = [(each.delivery_id, one.event_id) for each in acknowledgements for one in each.results]
        self._faults.step('begin')
        if self._faults.choose('it fails at once'):
            done(exceptions.BrokerUnavailable(reason='away'))
        elif self._faults.choose('it is done at once'):
            self.sent += results
            done(None)
        else:
            self.waiting.append((results, done))
            return
        if self._faults.choose('it is reported again'):
            done(None)
        self._faults.step('begin, at its end')

    def finish(self):
        while self.waiting:
            results, done = self.waiting.pop(0)
            if self._faults.choose('it fails later'):
                done(exceptions.BrokerUnavailable(reason='away'))
            else:
                self.sent += results
                done(None)
            if self._faults.choose('it is reported again'):
                done(None)


class AckerTest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data())
    def test_each_result_is_sent_or_dropped_once(self, data):
        with test_acker.Timers() as timers:
            faults = exactly_once.Faults(data, strategies)
            client = Client(faults)
            acker = ackers.Acker(client, clock.ResolverClock())
            added = []
            for number in range(data.draw(strategies.integers(1, 6))):
                delivery = data.draw(strategies.sampled_from('de'))
                receipt = ackers.Receipt(CONTEXT, 'a', delivery, f'to-{delivery}', time.time() + 60)
                acker.add(receipt, [events.Result(str(number), events.Verdict.HANDLED)])
                added.append((delivery, str(number)))
                if data.draw(strategies.booleans()):
                    client.finish()
                if data.draw(strategies.booleans()) and timers.pauses:
                    timers.pauses.clear()
                    timers.end()
            faults.stop()
            for _ in range(10):
                client.finish()
                if timers.pauses:
                    timers.pauses.clear()
                    timers.end()
            # NOTE: an exception that is not an error of the broker drops the results in the message.
            self.assertLessEqual(max(collections.Counter(client.sent).values(), default=0), 1)
            self.assertLessEqual(set(client.sent), set(added))
            self.assertTrue(acker.flush(0))
            acker.add(receipt, [events.Result('last', events.Verdict.HANDLED)])
            client.finish()
            self.assertIn((delivery, 'last'), client.sent)
            self.assertTrue(acker.flush(0))

    def test_retries_are_limited_if_no_timer_thread_can_start(self):
        class Timer:
            def __init__(self, *args):
                self.started = 0

            def start(self):
                raise RuntimeError("can't start new thread")

        self.useFixture(fixtures.MonkeyPatch('threading.Timer', Timer))
        client = test_acker.Casts()
        client.at_once = [exceptions.BrokerUnavailable(reason='away')]
        acker = ackers.Acker(client, clock.ResolverClock())
        receipt = ackers.Receipt(CONTEXT, 'a', 'd', 'worker', time.time() + 60)
        acker.add(receipt, [events.Result('1', events.Verdict.HANDLED)])
        self.assertEqual(1, len(client.casts))
        acker.send()
        self.assertEqual(2, len(client.casts))


class Pool:
    """A pool that runs tasks when the test calls it. It can refuse tasks and raise exceptions."""

    def __init__(self, faults):
        self._faults = faults
        self.tasks = []

    def submit(self, key, task):
        self._faults.step('submit')
        if self._faults.choose('no room'):
            return False
        self.tasks.append(task)
        return True

    def run(self):
        while self.tasks:
            # The thread of a real pool also continues.
            with contextlib.suppress(exactly_once.Unexpected):
                self.tasks.pop(0)()


class Waiting:
    def __init__(self, faults):
        self._faults = faults

    def deliver(self, event):
        self._faults.step('waiters')
        return events.NOT_HANDLED


class Acker:
    def __init__(self, faults):
        self._faults = faults
        self.results = collections.Counter()

    def add(self, receipt, results):
        self._faults.step('add')
        self.results.update((receipt.delivery_id, result.event_id) for result in results)


class DispatcherTest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data())
    def test_each_event_has_one_end(self, data):
        faults = exactly_once.Faults(data, strategies)
        pool, results, handled = Pool(faults), Acker(faults), collections.Counter()
        handling = handlers.Handlers()
        handling.on('*', lambda ctxt, event: handled.update([event.id]))
        dispatching = dispatcher.Dispatcher(
            'a',
            pool=pool,
            results=results,
            resolver_clock=clock.ResolverClock(),
            waiting=Waiting(faults),
            handling=handling,
            source=sources.NoSource(),
            memory=deduplicator.Deduplicator(),
        )
        made = [
            events.Event('network-changed', SERVERS[number % 2], id=str(number))
            for number in range(data.draw(strategies.integers(1, 6)))
        ]

        def deliver(delivery_id):
            delivery = events.Delivery(delivery_id, 'worker', time.time() + 60, tuple(made))
            # NOTE: the thread of the connection also continues.
            with contextlib.suppress(exactly_once.Unexpected):
                dispatching.receive(CONTEXT, delivery)
            pool.run()

        for delivery_id in data.draw(strategies.lists(strategies.sampled_from('de'), min_size=1, max_size=3)):
            deliver(delivery_id)
        self.assertEqual(0, dispatching.drain(0))
        # Unacknowledged events are sent again, handled and acknowledged. No event is handled twice.
        faults.stop()
        deliver('last')
        self.assertEqual(0, dispatching.drain(0))
        self.assertEqual({event.id: 1 for event in made}, dict(handled))
        self.assertEqual(
            {event.id: 1 for event in made},
            {
                event_id: times
                for (delivery_id, event_id), times in results.results.items()
                if delivery_id == 'last'
            },
        )
