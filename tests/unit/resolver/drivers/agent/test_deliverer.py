import time

import fixtures

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.drivers.agent import acks
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

    def test_deadline_is_the_earliest_of_its_events(self):
        now, handled = time.time(), events.Verdict.HANDLED
        told = {'1': handled, 'short': handled}
        self.deliver({'a': ['1', 'short'], 'b': ['1']}, a=told, b=told)
        self.assertAlmostEqual(now + 5, self.hosts.delivered['a'].deadline, delta=4)
        self.assertAlmostEqual(now + 300, self.hosts.delivered['b'].deadline, delta=4)
        self.assertEqual('worker', self.hosts.delivered['a'].reply_to)
        self.assertEqual(['1', 'short'], [event.tag for event in self.hosts.delivered['a'].events])
