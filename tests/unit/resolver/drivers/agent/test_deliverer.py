import time

import fixtures

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import rpcapi
from external_events_router.messaging.amqp import publisher
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import coalescing_sender
from external_events_router.resolver.drivers.agent import deliverer
from tests import base
from tests.unit.resolver import agents

SERVER = '11111111-1111-4111-8111-111111111111'

HANDLED = events.Verdict.HANDLED


class Hosts:
    """Hosts that answer each event with a given verdict, and do not answer events without one."""

    def __init__(self, collector, **verdicts):
        self.collector = collector
        self.verdicts = verdicts
        self.delivered = {}

    def deliver(self, ctxt, host, sent):
        self.delivered[host] = sent
        if host == 'unreachable':
            raise exceptions.HostUnreachable(host=host)
        if host == 'no broker':
            raise exceptions.BrokerUnavailable(reason='away')
        known = self.verdicts.get(host, {})
        results = [events.Result(event.id, known[event.tag]) for event in sent.events if event.tag in known]
        self.collector.acknowledge(sent.id, results)


class Broker:
    """A transport whose thread takes casts before the deadline, after it, or never, and may send them."""

    def __init__(self, loop, *, sends=False, confirms=True):
        self._loop, self._sends, self._confirms = loop, sends, confirms
        self._soon = []
        self.sent = []

    def run_soon(self, callback):
        self._soon.append(callback)
        if self._loop == 'before':
            self.run()

    def run(self):
        if self._loop != 'never':
            while self._soon:
                self._soon.pop()()

    def cast(self, messages, done, *, until):
        for number, message in enumerate(messages):
            message.encoded = publisher.Message(message.server, b'', is_sent=self._sends)
            if self._sends:
                self.sent.append(message)
                if self._confirms:
                    done(number, None)


class DelivererTest(base.TestCase):
    def deliver(self, by_host, *, seconds=30.0, lifetime=300.0, **verdicts):
        observer = agents.Observer()
        self.answered, self.silent = observer.host_answers, observer.silence
        collector = acks.Collector()
        self.hosts = Hosts(collector, **verdicts)
        deliverer = agents.make_deliverer(self.hosts, collector, observer)
        sent = {
            host: [events.Event('network-changed', SERVER, tag, id=tag) for tag in tags]
            for host, tags in by_host.items()
        }
        answers = deliverer.deliver(
            context.for_service(),
            sent,
            deadline=time.monotonic() + seconds,
            lifetime=lambda event: lifetime if event.tag != 'short' else 5.0,
        )
        self.assertEqual({}, collector._waiting)
        return {key: answer.verdict for key, answer in answers.items()}

    def test_empty_delivery_has_no_answers(self):
        self.assertEqual({}, self.deliver({}))

    def test_host_that_acknowledges_is_reported_as_responding(self):
        handled, refused = events.Verdict.HANDLED, events.Verdict.REFUSED
        answers = self.deliver(
            {'a': ['1', '2'], 'b': ['1']}, a={'1': handled, '2': refused}, b={'1': handled}
        )
        self.assertEqual({('a', '1'): handled, ('a', '2'): refused, ('b', '1'): handled}, answers)
        self.assertEqual((['a', 'b'], {}), (sorted(self.answered), self.silent))

    def test_ids_come_from_the_random_generator_of_the_system(self):
        """An acknowledgement is accepted by the id of its delivery, so the id must be unpredictable."""
        given = [f'{number:032x}' for number in range(256)]
        random = bytes.fromhex(''.join(given))
        self.useFixture(fixtures.MonkeyPatch('os.urandom', lambda size: random[:size]))
        self.useFixture(fixtures.MonkeyPatch('external_events_router.ids._unused', []))
        self.deliver({'a': ['1'], 'b': ['1']}, a={'1': HANDLED}, b={'1': HANDLED})
        made = [sent.id for sent in self.hosts.delivered.values()]
        self.assertEqual(2, len(set(made)))
        self.assertLessEqual(set(made), set(given))

    def test_partial_acknowledgement_shows_that_the_host_responds(self):
        answers = self.deliver({'a': ['1', '2']}, seconds=0.05, a={'2': events.Verdict.HANDLED})
        self.assertIsNone(answers['a', '1'])
        self.assertEqual((['a'], {}), (self.answered, self.silent))

    def test_host_without_acknowledgement_or_queue_is_reported_as_silent(self):
        answers = self.deliver({'a': ['1'], 'unreachable': ['1']}, seconds=0.05)
        self.assertEqual({None}, set(answers.values()))
        self.assertEqual([], self.answered)
        self.assertEqual(
            {'a': host_answers.NO_ACK, 'unreachable': 'no agent listens for host unreachable'}, self.silent
        )

    def test_unavailable_broker_is_not_reported_as_a_silent_host(self):
        self.assertEqual({('no broker', '1'): None}, self.deliver({'no broker': ['1']}))
        self.assertEqual(([], {}), (self.answered, self.silent))

    def test_nothing_is_sent_while_acknowledgements_cannot_arrive(self):
        collector, observer = acks.Collector(), agents.Observer()
        collector.disconnected('refused')
        hosts = Hosts(collector)
        deliverer = agents.make_deliverer(hosts, collector, observer)
        answers = deliverer.deliver(
            context.for_service(),
            {'a': [events.Event('network-changed', SERVER, id='1')]},
            deadline=time.monotonic() + 60,
            lifetime=lambda event: 300.0,
        )
        self.assertEqual([None], [answer.verdict for answer in answers.values()])
        self.assertEqual({}, hosts.delivered)
        # This is no evidence about the host.
        self.assertEqual({}, observer.silence)

    def test_host_to_which_nothing_was_sent_is_not_reported_as_silent(self):
        for loop in ('before', 'after', 'never'):
            with self.subTest(loop=loop):
                answers, observer = self.deliver_over(Broker(loop), seconds=0.05)
                self.assertEqual([(None, host_answers.NOT_SENT, False)], answers)
                self.assertEqual({}, observer.silence)
        answers, observer = self.deliver_over(Broker('before', sends=True), seconds=0.05)
        self.assertEqual([(None, host_answers.NO_ACK, True)], answers)
        self.assertEqual({'a': host_answers.NO_ACK}, observer.silence)

    def test_nothing_is_sent_after_the_deadline(self):
        broker = Broker('before', sends=True)
        answers, observer = self.deliver_over(broker, seconds=-1.0)
        self.assertEqual([False], [asked for _verdict, _reason, asked in answers])
        self.assertEqual(({}, []), (observer.silence, broker.sent))

    def test_delivery_behind_an_unconfirmed_message_is_no_evidence_about_its_host(self):
        broker = Broker('before', sends=True, confirms=False)
        collector, observer = acks.Collector(), agents.Observer()
        casts = coalescing_sender.CoalescingSender(rpcapi.AgentAPI(broker, topic='compute'))
        deliverer = self.deliverer(casts, collector, observer)
        for expected in ({'a': host_answers.NO_ACK}, {}):
            observer.silence.clear()
            self.deliver_one(deliverer, seconds=0.05)
            self.assertEqual(expected, observer.silence)
        self.assertEqual(1, len(broker.sent))

    def deliver_over(self, broker, *, seconds):
        """Deliver one event over a transport; return its answer and the observer."""
        collector, observer = acks.Collector(), agents.Observer()
        casts = coalescing_sender.CoalescingSender(
            rpcapi.AgentAPI(broker, topic='compute'), run_soon=broker.run_soon
        )
        answers = self.deliver_one(self.deliverer(casts, collector, observer), seconds=seconds)
        broker.run()
        return [(answer.verdict, answer.reason, answer.asked) for answer in answers.values()], observer

    def deliverer(self, casts, collector, observer):
        return deliverer.AgentDeliverer(
            casts, collector, observer, reply_to='worker', transport=None, listener=None
        )

    def deliver_one(self, made, *, seconds):
        return made.deliver(
            context.for_service(),
            {'a': [events.Event('network-changed', SERVER, id='1')]},
            deadline=time.monotonic() + seconds,
            lifetime=lambda event: 300.0,
        )

    def test_deadline_is_the_earliest_of_its_events(self):
        now, handled = time.time(), events.Verdict.HANDLED
        results = {'1': handled, 'short': handled}
        self.deliver({'a': ['1', 'short'], 'b': ['1']}, a=results, b=results)
        self.assertAlmostEqual(now + 5, self.hosts.delivered['a'].deadline, delta=4)
        self.assertAlmostEqual(now + 300, self.hosts.delivered['b'].deadline, delta=4)
        self.assertEqual('worker', self.hosts.delivered['a'].reply_to)
        self.assertEqual(['1', 'short'], [event.tag for event in self.hosts.delivered['a'].events])
