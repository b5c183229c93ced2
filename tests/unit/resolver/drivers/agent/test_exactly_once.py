"""Each delivery has one end between router and publisher, whatever raises, and frees its host."""

import contextlib
import time

import hypothesis
from hypothesis import strategies

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import settling
from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import envelope
from external_events_router.resolver import rpcapi
from external_events_router.resolver.drivers.agent import coalescing_sender
from tests import base
from tests import generated
from tests.unit import exactly_once

SERVER = '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01'
CONTEXT = context.RequestContext(overwrite=False)
AWAY = exceptions.BrokerUnavailable(reason='away')


class Publisher:
    """Reports the end of some messages immediately and of others later, and can raise at any point."""

    def __init__(self, faults):
        self._faults = faults
        self.waiting = []

    def publish(self, messages, done, *, until):
        for index, _message in enumerate(messages):
            self._faults.step('publish')
            if self._faults.choose('it fails at once'):
                done(index, AWAY)
            else:
                self.waiting.append((done, index))
        self._faults.step('publish, at its end')

    def finish(self):
        while self.waiting:
            done, index = self.waiting.pop(0)
            with contextlib.suppress(exactly_once.Unexpected):
                done(index, AWAY if self._faults.choose('it fails later') else None)


class Sender(Publisher):
    """A sender with the interface of a transport, or of a client of the agents."""

    def cast(self, casts, done, *, until):
        self.publish(casts, done, until=until)


def delivery(name):
    return events.Delivery(name, 'worker', time.time() + 60, (events.Event('network-changed', SERVER),))


class SettleOnceTest(base.TestCase):
    def test_each_item_ends_once_although_the_callback_raises(self):
        results = []

        def done(item, error):
            results.append((item, error))
            raise exactly_once.Unexpected

        once = settling.Once(3, done)
        once.settle(1, None)
        once.settle(1, AWAY)
        once.settle_rest(AWAY)
        once.settle(0, None)
        self.assertEqual([(1, None), (0, AWAY), (2, AWAY)], results)


class AgentAPITest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data(), strategies.sampled_from((None, '1.0')))
    def test_end_of_each_cast_is_reported_once(self, data, version):
        faults = exactly_once.Faults(data, strategies)
        results = exactly_once.Results(faults)
        publishing = Sender(faults)
        api = agent_rpcapi.AgentAPI(publishing, topic='compute', version_cap=version)
        hosts = data.draw(strategies.lists(strategies.sampled_from(('a', 'x' * 248, '#', '\ud800'))))
        broken = data.draw(strategies.booleans())
        casts = [
            agent_rpcapi.Cast(
                host, [(CONTEXT, delivery('1')), (object() if broken else CONTEXT, delivery('2'))]
            )
            for host in hosts
        ]
        api.cast(casts, results.note, until=0.0)
        publishing.finish()
        self.assertEqual(dict.fromkeys(range(len(hosts)), 1), dict(results.times))
        for item, host in enumerate(hosts):
            if host != 'a':
                self.assertIsInstance(results.errors[item], exceptions.InvalidHost)


class AckAPITest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data(), strategies.sampled_from((None, '1.1', '1.0')))
    def test_end_is_reported_once(self, data, version):
        faults = exactly_once.Faults(data, strategies)
        results = exactly_once.Results(faults)
        publishing = Sender(faults)
        api = rpcapi.AckAPI(publishing, version_cap=version)
        acknowledgements = data.draw(
            strategies.lists(
                strategies.sampled_from((events.Acknowledgement('d', 'a', ()), None)), max_size=3
            )
        )
        api.acknowledge_all('worker', acknowledgements, lambda error: results.note(0, error))
        publishing.finish()
        self.assertEqual({0: 1}, dict(results.times))


class DirectTransportTest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data())
    def test_end_of_each_message_is_reported_once(self, data):
        faults = exactly_once.Faults(data, strategies)
        results = exactly_once.Results(faults)
        direct = transports.DirectTransport(brokers.Broker(nodes=(), virtual_host='/', exchange='e'))
        direct._publisher = Publisher(faults)
        arguments = data.draw(strategies.lists(strategies.sampled_from(({}, {'bad': object()}))))
        messages = [
            transports.Message('topic', 'server', envelope.Call('method', '1.0', each, {}))
            for each in arguments
        ]
        direct.cast(messages, results.note, until=0.0)
        direct._publisher.finish()
        self.assertEqual(dict.fromkeys(range(len(messages)), 1), dict(results.times))
        for number, each in enumerate(arguments):
            if each:
                self.assertIsInstance(results.errors[number], exceptions.Unsendable)


class CoalescingSenderTest(base.TestCase):
    @generated.examples(40)
    @hypothesis.given(strategies.data(), strategies.booleans())
    def test_each_delivery_has_one_end(self, data, together):
        faults = exactly_once.Faults(data, strategies)
        results = exactly_once.Results(faults)
        sender = Sender(faults)
        out = coalescing_sender.CoalescingSender(sender, together=together)
        with contextlib.ExitStack() as blocks:
            for number in range(data.draw(strategies.integers(1, 6))):
                hosts = data.draw(strategies.sets(strategies.sampled_from('abc')))
                late = data.draw(strategies.booleans())
                blocks.enter_context(
                    out.cast(
                        CONTEXT,
                        {host: delivery(f'{number}') for host in hosts},
                        on_failure=lambda host, reason, number=number: results.note((number, host), reason),
                        until=time.monotonic() + (-1 if late else 60),
                    )
                )
                if data.draw(strategies.booleans()):
                    sender.finish()
            sender.finish()
        faults.stop()
        self.assertEqual({}, {item: times for item, times in results.times.items() if times != 1})
        # Each host accepts the next delivery immediately.
        with out.cast(CONTEXT, dict.fromkeys('abc', delivery('last')), on_failure=results.note, until=1e18):
            self.assertEqual(3, len(sender.waiting))
            sender.finish()
        self.assertEqual({}, out._waiting)

    def test_many_immediate_failures_do_not_overflow_the_stack(self):
        class Down:
            def __init__(self):
                self.first = None

            def cast(self, casts, done, *, until):
                if self.first is None:
                    self.first = done
                else:
                    for index, _cast in enumerate(casts):
                        done(index, AWAY)

        sender, failed = Down(), []
        out = coalescing_sender.CoalescingSender(sender)
        many = events.Delivery(
            'd', 'w', 0.0, (events.Event('network-changed', SERVER),) * coalescing_sender.MAX_EVENTS
        )
        with contextlib.ExitStack() as blocks:
            for _ in range(2000):
                blocks.enter_context(
                    out.cast(
                        CONTEXT, {'a': many}, on_failure=lambda *results: failed.append(results), until=1e18
                    )
                )
            sender.first(0, AWAY)
            self.assertEqual(2000, len(failed))
        self.assertNotIn('Traceback', self.logs.output)
