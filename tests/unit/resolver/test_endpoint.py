"""Messages of other processes to a resolver worker: an invalid item is refused alone."""

import json

import hypothesis
from hypothesis import strategies
import oslo_messaging

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import envelope
from external_events_router.resolver import endpoint
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import endpoint as ack_endpoint
from external_events_router.resolver.health import circuit_breaker
from external_events_router.resolver.host_map import base as host_map_base
from tests import base
from tests import generated
from tests.unit.resolver import agents

SERVER = '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01'
CONTEXT = context.RequestContext(overwrite=False)

_json = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.floats()
    | strategies.integers()
    | strategies.text(),
    lambda inner: (
        strategies.lists(inner, max_size=4)
        | strategies.dictionaries(
            strategies.sampled_from(
                (
                    'events',
                    'host',
                    'delivery_id',
                    'results',
                    'name',
                    'id',
                    'event_id',
                    'verdict',
                    'reason',
                    'tag',
                )
            )
            | strategies.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


class Router:
    """Delivers everything."""

    def __init__(self):
        self.batches, self.timeouts = [], []

    def route(self, ctxt, batch, *, ack_timeout, timeout):
        self.batches.append((list(batch), ack_timeout))
        self.timeouts.append(timeout)
        return [events.Outcome(event, events.Code.DELIVERED) for event in batch]


class HostMap:
    def __init__(self):
        self.calls = []

    def assign(self, *arguments):
        self.calls.append(arguments)

    unassign = forget = assign

    def report(self, host, server_uuids):
        self.calls.append((host, *server_uuids))
        return host_map_base.Change()


class Recovery:
    def __init__(self):
        self.hosts = []

    def placed(self, servers):
        pass

    def responses_announced(self, hosts):
        self.hosts += hosts


class Liveness:
    def __init__(self):
        self.hosts = []

    def appeared(self, host):
        self.hosts.append(host)

    def silence_announced(self, hosts, *, unconsumed):
        self.hosts += hosts


class Proofs:
    def __init__(self):
        self.asked, self.answer = [], True

    def accepts(self, host, token):
        self.asked.append((host, token))
        return self.answer


class EndpointTest(base.TestCase):
    def setUp(self):
        super().setUp()
        rejected.ALL.reset()
        self.addCleanup(rejected.ALL.reset)

    def refused(self, call, *args, **kwargs):
        """Check that a call is answered with MalformedMessage, and that no traceback is logged."""
        error = self.assertRaises(oslo_messaging.ExpectedException, call, *args, **kwargs)
        self.assertIsInstance(error.exc_info[1], exceptions.MalformedMessage)
        self.assertNotIn('Traceback', self.logs.output)


class RouteTest(EndpointTest):
    def setUp(self):
        super().setUp()
        self.router = Router()
        self.endpoint = endpoint.RouteEndpoint(self.router, ack_timeout=2.0)

    def event(self, **changes):
        return {**events.Event('network-changed', SERVER, 'tag').to_dict(), **changes}

    def test_invalid_event_is_refused_alone_and_in_its_place(self):
        bad = [
            self.event(server_uuid='\xe9' * 36),
            self.event(server_uuid=SERVER.upper()),
            self.event(name='network-unknown'),
            self.event(name=['network-changed']),
            self.event(status='done'),
            self.event(tag='x' * 256),
            self.event(tag=3),
            self.event(id=''),
            self.event(id='x' * 65),
            None,
            'network-changed',
            [],
            {},
        ]
        for item in bad:
            answered = self.endpoint.route(CONTEXT, [self.event(), item, self.event()], 1.0)
            self.assertEqual([200, 400, 200], [outcome['code'] for outcome in answered], item)
        self.assertEqual({2}, {len(batch) for batch, _timeout in self.router.batches})
        self.assertEqual({'event': len(bad)}, rejected.ALL.counts())
        self.assertEqual(1, self.logs.output.count('Invalid event'))

    def test_second_event_with_the_same_id_is_refused(self):
        first, second = (
            self.event(id='one'),
            self.event(id='one', name='network-vif-plugged', status='failed'),
        )
        answered = self.endpoint.route(CONTEXT, [first, second, self.event(id='two')], 1.0)
        self.assertEqual([200, 400, 200], [outcome['code'] for outcome in answered])
        ((batch, _timeout),) = self.router.batches
        self.assertEqual(['one', 'two'], [event.id for event in batch])

    def test_timeout_is_bounded(self):
        for asked, had in ((1e6, 2.0), (1, 1), (0.5, 0.5)):
            self.endpoint.route(CONTEXT, [self.event()], asked)
            self.assertEqual(had, self.router.batches[-1][1])
        for bad in (0, -1, float('nan'), float('inf'), '1', None, True, [1.0], 10**400):
            self.refused(self.endpoint.route, CONTEXT, [self.event()], bad)
            if bad is not None:
                self.refused(self.endpoint.route, CONTEXT, [self.event()], 1.0, bad)
        self.endpoint.route(CONTEXT, [self.event()], 1.0, 1e6)
        self.assertEqual(3.0, self.router.timeouts[-1])

    def test_other_invalid_arguments(self):
        for bad in ({}, 'events', None, 3, 'x' * 1000):
            self.refused(self.endpoint.route, CONTEXT, bad, 1.0)
        self.refused(self.endpoint.route, CONTEXT, events=[])
        self.refused(self.endpoint.route, CONTEXT, events=[], ack_timeout=1.0, more=1)
        self.refused(self.endpoint.route, CONTEXT, ctxt=1)

    def test_internal_error_is_not_reported_as_a_malformed_message(self):
        self.router.route = None
        self.assertRaises(TypeError, self.endpoint.route, CONTEXT, [self.event()], 1.0)

    @generated.examples(60)
    @hypothesis.given(_json, _json)
    def test_any_message(self, batch, ack_timeout):
        try:
            answered = self.endpoint.route(CONTEXT, batch, ack_timeout)
        except oslo_messaging.ExpectedException:
            return
        self.assertEqual(len(batch), len(answered))


class AckTest(EndpointTest):
    def setUp(self):
        super().setUp()
        observer = agents.Observer()
        self.late = observer.late_hosts
        self.collector = acks.Collector()
        self.endpoint = ack_endpoint.AckEndpoint(self.collector, observer)
        self.listener = rpc.listener(self.endpoint)
        self.deliveries = {
            host: events.Delivery(
                f'{host}-1',
                'worker',
                0.0,
                tuple(events.Event('network-changed', SERVER, id=f'{host}{n}') for n in '12'),
            )
            for host in 'ab'
        }

    def said(self, host, *results, **changes):
        return {
            'delivery_id': f'{host}-1',
            'host': host,
            'results': [{'event_id': event, 'verdict': 'handled', 'reason': None} for event in results],
            **changes,
        }

    def cast(self, *acknowledgements):
        call = envelope.Call('acknowledge_all', '1.2', {'acknowledgements': list(acknowledgements)}, {})
        self.listener(envelope.decode(envelope.encode(call)))

    def test_invalid_acknowledgement_does_not_discard_the_others(self):
        half = {'event_id': 'a1', 'verdict': 'refused', 'reason': 'half \ud83d of a pair'}
        with agents.expect(self.collector, self.deliveries) as waiting:
            self.cast(None, [], {}, self.said('a', delivery_id='x' * 65), self.said('a', results=[half]))
            self.cast(
                self.said('a', results=[{}, None, {'event_id': 'a2', 'verdict': 'no'}]),
                self.said('b', 'b1', 'b2'),
            )
            answers = waiting.wait(0)
        self.assertEqual('half ? of a pair', answers['a', 'a1'].reason)
        self.assertIsNone(answers['a', 'a2'].verdict)
        self.assertEqual(events.Verdict.HANDLED, answers['b', 'b1'].verdict)
        self.assertEqual({'acknowledgement': 4, 'result': 3}, rejected.ALL.counts())
        self.assertNotIn('Traceback', self.logs.output)

    def test_malformed_acknowledgements_write_little_to_the_log(self):
        for _ in range(100):
            self.cast({'delivery_id': 'x' * 1_000_000})
        for arguments in ({}, {'acknowledgements': 'x' * 1_000_000}, {'acknowledgements': {}, 'more': 1}):
            self.listener(envelope.Call('acknowledge_all', '1.2', arguments, {}))
        self.assertLess(len(self.logs.output), 2000)
        self.assertNotIn('Traceback', self.logs.output)

    def test_host_cannot_acknowledge_for_another_host(self):
        with agents.expect(self.collector, self.deliveries) as waiting:
            self.cast(self.said('b', 'a1', 'a2', delivery_id='a-1'))
            self.assertIsNone(waiting.wait(0)['a', 'a1'].verdict)
        # It does not show that either host responds, even if it is late.
        self.cast(self.said('b', 'a1', delivery_id='a-1'), self.said('b', 'b1', delivery_id='unknown'))
        self.assertEqual([], self.late)
        self.assertEqual({'acknowledgement of another host': 2}, rejected.ALL.counts())

    def test_late_acknowledgement_counts_for_the_host_of_its_delivery(self):
        with agents.expect(self.collector, self.deliveries):
            pass
        self.cast(self.said('a', 'a1'))
        self.endpoint.acknowledge(CONTEXT, 'b-1', [])
        self.assertEqual(['a', 'b'], self.late)

    def test_acknowledgement_in_time_is_not_remembered(self):
        with agents.expect(self.collector, {'a': self.deliveries['a']}):
            self.cast(self.said('a', 'a1', 'a2'))
        self.cast(self.said('a', 'a1'))
        self.assertEqual([], self.late)

    def test_agent_of_version_one_does_not_send_its_host(self):
        with agents.expect(self.collector, self.deliveries) as waiting:
            self.endpoint.acknowledge(CONTEXT, 'a-1', [{'event_id': 'a1', 'verdict': 'handled'}])
            self.assertEqual(events.Verdict.HANDLED, waiting.wait(0)['a', 'a1'].verdict)

    def test_arguments_of_a_single_acknowledgement(self):
        for bad in (
            ('x' * 65, [], 'a'),
            ('', [], 'a'),
            (3, [], 'a'),
            ('a-1', {}, 'a'),
            ('a-1', [], '#'),
            ('a-1', [], 3),
        ):
            self.refused(self.endpoint.acknowledge, CONTEXT, *bad)

    @generated.examples(60)
    @hypothesis.given(_json)
    def test_any_acknowledgement(self, acknowledgements):
        with agents.expect(self.collector, self.deliveries) as waiting:
            self.listener(envelope.Call('acknowledge_all', '1.2', {'acknowledgements': acknowledgements}, {}))
            self.cast(self.said('b', 'b1'))
            self.assertEqual(events.Verdict.HANDLED, waiting.wait(0)['b', 'b1'].verdict)

    @generated.examples(60)
    @hypothesis.given(strategies.binary() | _json.map(lambda value: json.dumps(value).encode()))
    def test_any_message_body(self, body):
        try:
            call = envelope.decode(body)
        except exceptions.MalformedMessage:
            return
        self.listener(call)


class HostMapTest(EndpointTest):
    def setUp(self):
        super().setUp()
        self.map, self.host_recovery, self.liveness = HostMap(), Recovery(), Liveness()
        self.proofs = Proofs()
        self.endpoint = endpoint.HostMapEndpoint(self.map, self.host_recovery, self.liveness, self.proofs)

    def test_host_names(self):
        for bad in ('#', '*', '', 'a b', 'x' * 256, 'h\xf6st', None, 3, []):
            self.refused(self.endpoint.assign, CONTEXT, SERVER, bad)
            self.refused(self.endpoint.report, CONTEXT, bad, [SERVER])
        self.assertEqual(([], [], []), (self.map.calls, self.host_recovery.hosts, self.liveness.hosts))

    def test_report_that_is_refused_has_no_effect(self):
        self.proofs.answer = False
        for token in ({}, {'token': ''}, {'token': 'x' * 64}):
            answer = self.endpoint.report(CONTEXT, 'a', [SERVER], **token)
            self.assertIs(True, answer['proof_needed'])
            self.assertIsInstance(answer['now'], float)
        self.assertEqual(([], []), (self.map.calls, self.liveness.hosts))
        self.assertEqual([('a', None), ('a', ''), ('a', 'x' * 64)], self.proofs.asked)
        self.proofs.answer = True
        self.assertNotIn('proof_needed', self.endpoint.report(CONTEXT, 'a', [SERVER], 'token'))
        self.assertEqual(([('a', SERVER)], ['a']), (self.map.calls, self.liveness.hosts))

    def test_invalid_token_is_refused(self):
        for bad in (3, True, [], {}, 'x' * 65, 'a b', '\u0661', '\ud800'):
            self.refused(self.endpoint.report, CONTEXT, 'a', [SERVER], bad)
        self.assertEqual(([], [], []), (self.map.calls, self.liveness.hosts, self.proofs.asked))

    def test_messages_of_other_workers(self):
        peers = endpoint.PeerEndpoint(self.host_recovery, self.liveness)
        for hosts in (['#', 'a', None], [{}, 'x' * 256]):
            peers.hosts_are_back(CONTEXT, hosts)
            peers.hosts_are_silent(CONTEXT, hosts, True)
            peers.host_is_back(CONTEXT, hosts[0])
        self.assertEqual((['a'], ['a']), (self.host_recovery.hosts, self.liveness.hosts))
        for bad in ('a', {}, None, 3):
            self.refused(peers.hosts_are_back, CONTEXT, bad)
            self.refused(peers.hosts_are_silent, CONTEXT, bad)
        self.refused(peers.hosts_are_silent, CONTEXT, [], unconsumed='yes')

    def test_operators_can_read_the_circuit_breakers(self):
        breakers = circuit_breaker.CircuitBreakers()
        breakers.open(['silent'])
        breakers.open(['ended'], unconsumed=True)
        operators = endpoint.OperatorEndpoint(None, breakers)
        self.assertEqual(
            {'well': 'closed', 'silent': 'open', 'ended': 'unconsumed'},
            operators.breakers(CONTEXT, ['well', 'silent', 'ended', '#', None]),
        )
        self.refused(operators.breakers, CONTEXT, 'silent')

    def test_servers(self):
        for bad in ('', 'x', 'x' * 36, None, 3, [], '\xe9' * 36):
            self.refused(self.endpoint.assign, CONTEXT, bad, 'a')
            self.refused(self.endpoint.unassign, CONTEXT, bad, 'a')
            self.refused(self.endpoint.forget, CONTEXT, bad)
        self.assertEqual([], self.map.calls)

    def test_name_of_an_older_release_can_be_removed(self):
        self.endpoint.unassign(CONTEXT, SERVER, '#' * 255)
        self.refused(self.endpoint.unassign, CONTEXT, SERVER, 'x' * 256)
        self.assertEqual([(SERVER, '#' * 255)], self.map.calls)

    def test_invalid_server_is_removed_from_a_report(self):
        self.endpoint.report(CONTEXT, 'a', [None, SERVER.upper(), 'x'])
        self.assertEqual([('a', SERVER)], self.map.calls)
        for bad in ({}, 'servers', 3):
            self.refused(self.endpoint.report, CONTEXT, 'a', bad)
        self.assertEqual({'server uuid': 2, 'report': 3}, rejected.ALL.counts())
