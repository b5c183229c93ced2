"""Deliveries to nova-compute services in memory."""

import contextlib
import logging
import threading
import time
from unittest import mock

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.concurrency import bounded_pool
from external_events_router.messaging import gate
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.drivers.nova import cast_batches
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import deliverer
from external_events_router.resolver.drivers.nova import host_map as host_map
from external_events_router.resolver.drivers.nova import versions
from tests import base
from tests.unit.resolver import agents

A, B = (f'{number:08x}-0000-4000-8000-000000000000' for number in (1, 2))
CELLS = {name: cells.Cell(f'uuid-{name}', name, 'db', 'mq') for name in ('one', 'two')}

#: Seconds. The longest wait of a test; the expected events are much earlier.
LONG = 30.0

HANDLED = events.Verdict.HANDLED


class Line:
    """Connection to nova-compute services that accept each cast, unless the test makes them fail or hang."""

    def __init__(self, threads, cell):
        self.cell = cell
        self.failure_log = throttled_log.ThrottledLog(logging.getLogger(__name__))
        self.pool = bounded_pool.BoundedPool(threads, 'test-line')
        self.gate = gate.BrokerGate('a broker')
        self.sent = []
        self.actions = []
        self.replies = []
        self.errors = {}
        self.refuses = {}
        self.may_take = threading.Event()
        self.may_take.set()
        self.hangs = threading.Semaphore(0)

    def computes(self):
        return self

    def rpc_version(self):
        return versions.SIX

    def record_action(self, event, ctxt):
        if 'record' in self.errors:
            raise self.errors['record']
        self.actions.append((event.id, ctxt.request_id))

    def external_instance_event(self, ctxt, host, rpc_version, *, instances, events, reply_timeout):
        self.hangs.release()
        if not self.may_take.wait(LONG):
            raise AssertionError
        if host in self.errors:
            raise self.errors[host]
        tags = [event['nova_object.data']['tag'] for event in events]
        self.sent.append((host, ctxt['request_id'], [instance['of'] for instance in instances], tags))
        self.replies.append(reply_timeout)
        for tag in tags:
            if tag in self.refuses:
                raise exceptions.HostFailed(host=host, error=self.refuses[tag])


class Observer(agents.Observer):
    """Records the waits, too, and counts late answers."""

    def __init__(self):
        super().__init__()
        self.waits, self.late_answers = [], threading.Semaphore(0)

    @contextlib.contextmanager
    def wait(self, hosts):
        self.waits.append(set(hosts))
        yield

    def late(self, host):
        self.late_answers.release()


class NovaDelivererTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.lines = {'one': Line(2, 'cell one'), 'two': Line(1, 'cell two')}
        for line in self.lines.values():
            self.addCleanup(line.pool.close)
            self.addCleanup(line.may_take.set)
        self.observer = Observer()
        self.answered, self.silent = self.observer.host_answers, self.observer.silence
        self.late = self.observer.late_answers
        self.deliverer = self.make()
        self.records = {A: self.record(A, 'one', h='one'), B: self.record(B, 'one', h='one', g='two')}

    def make(self, **options):
        return deliverer.NovaDeliverer(
            self,
            self.observer,
            **options,
        )

    def to(self, cell):
        return self.lines[cell.name]

    def close(self):
        pass

    def record(self, server, home, **hosts):
        placed = {CELLS[cell].host(host): CELLS[cell] for host, cell in hosts.items()}
        return host_map.Record(CELLS[home], placed, {'of': server})

    def event(self, server, tag, name='network-vif-plugged'):
        return events.Event(name, server, tag, id=tag)

    def deliver(self, by_host, *, seconds=LONG, **options):
        answers = self.deliverer.deliver(
            context.RequestContext(request_id='req-batch', overwrite=False),
            by_host,
            deadline=time.monotonic() + seconds,
            lifetime=lambda event: 300.0,
            records=options.pop('records', self.records),
            **options,
        )
        return {
            (host[0], event_id): answer.verdict or answer.reason
            for (host, event_id), answer in answers.items()
        }

    def test_empty_delivery_has_no_answers(self):
        self.assertEqual({}, self.deliver({}))

    def test_each_host_gets_one_cast_over_the_broker_of_its_cell(self):
        a, b = self.event(A, '1'), self.event(B, '2')
        again = self.event(A, '3')
        answers = self.deliver({'h@uuid-one': [a, b, again], 'g@uuid-two': [b]})
        self.assertEqual(dict.fromkeys([('h', '1'), ('h', '2'), ('h', '3'), ('g', '2')], HANDLED), answers)
        self.assertEqual([('h', 'req-batch', [A, B], ['1', '2', '3'])], self.lines['one'].sent)
        self.assertEqual([('g', 'req-batch', [B], ['2'])], self.lines['two'].sent)
        self.assertEqual(({'h@uuid-one', 'g@uuid-two'}, {}), (set(self.answered), self.silent))
        self.assertEqual([{'h@uuid-one', 'g@uuid-two'}], self.observer.waits)
        self.assertEqual(['g@uuid-two', 'h@uuid-one'], sorted(self.observer.began))

    def test_events_that_share_an_entry_in_the_cast_all_have_answers(self):
        sent = [events.Event('network-changed', A, 'p', id=number) for number in '123']
        self.assertEqual({('h', n): HANDLED for n in '123'}, self.deliver({'h@uuid-one': sent}))
        self.assertEqual([('h', 'req-batch', [A], ['p'])], self.lines['one'].sent)

    def test_failed_host_affects_no_other_host(self):
        self.lines['one'].errors = {'h': exceptions.HostUnreachable(host='h')}
        self.lines['two'].errors = {'g': ZeroDivisionError()}
        self.records[A] = self.record(A, 'one', h='one', k='one')
        a, b = self.event(A, '1'), self.event(B, '2')
        answers = self.deliver({'h@uuid-one': [a], 'k@uuid-one': [a], 'g@uuid-two': [b]})
        unreachable = 'no agent listens for host h'
        unexpected = 'unexpected ZeroDivisionError'
        self.assertEqual({('h', '1'): unreachable, ('k', '1'): HANDLED, ('g', '2'): unexpected}, answers)
        self.assertEqual({'h@uuid-one': unreachable, 'g@uuid-two': unexpected}, self.silent)
        self.assertEqual(['k@uuid-one'], self.answered)

    def test_unavailable_broker_is_not_reported_as_a_failed_host(self):
        self.lines['one'].errors = {'h': exceptions.BrokerUnavailable(reason='away')}
        for number in '12':
            answers = self.deliver({'h@uuid-one': [self.event(A, number)]})
            self.assertIn('away', answers['h', number])
        self.assertEqual(([], {}), (self.answered, self.silent))
        # The second cast was not attempted, and there is only one message.
        self.assertTrue(self.lines['one'].hangs.acquire(blocking=False))
        self.assertFalse(self.lines['one'].hangs.acquire(blocking=False))
        self.assertEqual(1, self.logs.output.count('is unavailable'))

    def test_event_of_an_unknown_instance_is_not_sent_and_its_host_has_not_failed(self):
        answers = self.deliver(
            {'h@uuid-one': [self.event(A, '1'), self.event(B, '2')]}, records={A: self.records[A]}
        )
        self.assertEqual({('h', '1'): HANDLED, ('h', '2'): 'the instance could not be read'}, answers)
        del self.answered[:]
        self.assertEqual(
            {('h', '3'): 'the instance could not be read'},
            self.deliver({'h@uuid-one': [self.event(B, '3')]}, records={}),
        )
        self.assertEqual(([], {}), (self.answered, self.silent))

    def test_cell_that_hangs_delays_no_other_cell(self):
        self.lines['two'].may_take.clear()
        began = time.monotonic()
        answers = self.deliver(
            {'g@uuid-two': [self.event(B, '2')], 'h@uuid-one': [self.event(B, '2')]}, seconds=0.2
        )
        self.assertLess(time.monotonic() - began, LONG / 2)
        self.assertEqual({('g', '2'): host_answers.NO_ACK, ('h', '2'): HANDLED}, answers)
        # The only thread of the cell hangs, so no other task starts there or remains in its queue.
        waiting = {'g@uuid-two': [self.event(B, '3')]}
        self.silent.clear()
        self.assertEqual(
            {('g', '3'): 'no thread of its cell was free in time'}, self.deliver(waiting, seconds=0.1)
        )
        # This is no evidence about the host.
        self.assertEqual({}, self.silent)
        self.assertEqual({('h', '4'): HANDLED}, self.deliver({'h@uuid-one': [self.event(A, '4')]}))
        self.lines['two'].may_take.set()
        self.assertTrue(self.late.acquire(timeout=LONG))
        self.assertEqual({('g', '3'): HANDLED}, self.deliver(waiting))

    def test_event_in_flight_is_not_sent_again(self):
        line = self.lines['one']
        line.may_take.clear()
        load = {'h@uuid-one': [self.event(A, '1')]}
        self.assertEqual({('h', '1'): host_answers.NO_ACK}, self.deliver(load, seconds=0.05))
        self.assertEqual({('h', '1'): host_answers.NO_ACK}, self.deliver(load, seconds=0.05))
        line.may_take.set()
        self.assertTrue(self.late.acquire(timeout=LONG))
        self.assertEqual({('h', '1'): HANDLED}, self.deliver(load))
        self.assertEqual(1, len(line.sent))

    def test_cast_whose_thread_cannot_be_started_is_repeated(self):
        load = {'h@uuid-one': [self.event(A, '1')], 'g@uuid-two': [self.event(B, '2')]}
        with mock.patch.object(self.lines['one'].pool, 'submit', autospec=True, side_effect=RuntimeError):
            answers = self.deliver(load)
        self.assertEqual({('h', '1'): 'unexpected RuntimeError', ('g', '2'): HANDLED}, answers)
        self.assertEqual({}, self.silent)
        self.assertEqual({('h', '1'): HANDLED}, self.deliver({'h@uuid-one': load['h@uuid-one']}))

    def test_events_with_an_action_have_their_own_context(self):
        own = {'v': context.RequestContext(request_id='req-own', overwrite=False)}
        sent = [self.event(A, 'p'), self.event(A, 'v', 'volume-extended')]
        self.deliver({'h@uuid-one': sent}, contexts=own)
        self.assertEqual(
            [('h', 'req-batch', [A], ['p']), ('h', 'req-own', [A], ['v'])], self.lines['one'].sent
        )

    def test_action_is_recorded_in_the_cell_of_its_server_before_the_cast(self):
        self.lines['two'].may_take.clear()
        sent = {'g@uuid-two': [self.event(B, 'v', 'volume-extended'), self.event(B, 'p')]}
        self.deliver(sent, seconds=0.05)
        self.assertEqual([('v', 'req-batch')], self.lines['one'].actions)
        self.assertEqual([], self.lines['two'].actions + self.lines['two'].sent)

    def test_event_is_not_sent_if_its_action_cannot_be_recorded(self):
        self.lines['one'].errors['record'] = exceptions.DatabaseUnavailable(reason='away')
        sent = [self.event(A, 'v', 'volume-extended'), self.event(A, 'p'), self.event(A, 'u', 'power-update')]
        away = 'the database is unavailable: away'
        answers = self.deliver({'h@uuid-one': sent})
        self.assertEqual({('h', 'v'): away, ('h', 'p'): HANDLED, ('h', 'u'): away}, answers)
        self.assertEqual([('h', 'req-batch', [A], ['p'])], self.lines['one'].sent)

    def test_reply_timeout_of_the_cast(self):
        self.deliver({'h@uuid-one': [self.event(A, '1')]})
        self.assertEqual([None], self.lines['one'].replies)


class IsolationTest(NovaDelivererTest):
    """An error of a cell affects only this cell: no exception, an answer for each event, one warning."""

    def deliver_to_both(self):
        self.records[B] = self.record(B, 'two', g='two')
        return self.deliver({'h@uuid-one': [self.event(A, '1')], 'g@uuid-two': [self.event(B, '2')]})

    def assert_isolated(self, answers, reason):
        self.assertEqual({('h', '1'): HANDLED, ('g', '2'): reason}, answers)

    def test_unexpected_exception_of_a_cast(self):
        self.lines['two'].errors = {'g': ValueError('s3cret')}
        for _ in range(3):
            self.assert_isolated(self.deliver_to_both(), 'unexpected ValueError')
        warnings = [line for line in self.logs.output.splitlines() if 'WARNING' in line]
        self.assertEqual(1, len(warnings))
        self.assertIn('cell two', warnings[0])
        self.assertNotIn('s3cret', warnings[0])

    def test_transport_that_cannot_be_created(self):
        def refuse():
            raise exceptions.ConfigurationError(option='transport_url of cell two', reason='no transport')

        self.lines['two'].computes = refuse
        self.assert_isolated(self.deliver_to_both(), 'transport_url of cell two: no transport')
        self.assertIn('Casts to the computes of cell two fail: ', self.logs.output)

    def test_connection_that_cannot_be_created(self):
        def to(cell):
            if cell.name == 'two':
                raise RuntimeError
            return self.lines[cell.name]

        self.to = to
        self.assert_isolated(self.deliver_to_both(), 'unexpected RuntimeError')

    def test_casts_that_cannot_be_built(self):
        pack = cast_batches.group_into_casts

        def fail(sent, context_of):
            if sent and sent[0].server_uuid == B:
                raise RuntimeError
            return pack(sent, context_of)

        self.patch(cast_batches, 'group_into_casts', fail)
        for _ in range(2):
            self.assert_isolated(self.deliver_to_both(), 'unexpected RuntimeError')

    def test_exception_between_two_casts(self):
        def fail(load, cast_batch):
            if load.host == 'g@uuid-two':
                raise RuntimeError
            return sent(load, cast_batch)

        sent = self.deliverer._sent
        self.patch(self.deliverer, '_sent', fail)
        self.assert_isolated(self.deliver_to_both(), 'unexpected RuntimeError')


class ReplyTest(NovaDelivererTest):
    """The same deliveries to computes that reply, and the meaning of their errors."""

    def make(self, **options):
        return super().make(reply_timeout=7.0, **options)

    def test_reply_timeout_of_the_cast(self):
        self.deliver({'h@uuid-one': [self.event(A, '1')]})
        self.assertEqual([7.0], self.lines['one'].replies)

    def test_error_belongs_to_the_event_that_caused_it(self):
        self.lines['one'].refuses = {'2': 'ValueError', '4': 'InstanceNotFound'}
        answers = self.deliver({'h@uuid-one': [self.event(A, str(number)) for number in range(1, 6)]})
        failed = {('h', '2'): events.Verdict.REFUSED, ('h', '4'): events.Verdict.NOT_HERE}
        self.assertEqual({('h', n): failed.get(('h', n), HANDLED) for n in '12345'}, answers)
        self.assertEqual(
            ['12345', '1', '2', '3', '4', '5'], [''.join(sent[3]) for sent in self.lines['one'].sent]
        )
        self.assertEqual(['h@uuid-one'], self.answered)

    def test_unsupported_version_is_a_failure_of_the_host(self):
        self.lines['one'].refuses = {'1': 'UnsupportedVersion'}
        answers = self.deliver({'h@uuid-one': [self.event(A, '1'), self.event(A, '2')]})
        self.assertEqual({'host h failed with UnsupportedVersion'}, set(answers.values()))
        self.assertEqual(1, len(self.lines['one'].sent))
        self.assertEqual(['h@uuid-one'], list(self.silent))

    def test_missing_reply_is_an_unacknowledged_event(self):
        self.lines['one'].errors = {'h': exceptions.NoReply(host='h', reason='for 7 s')}
        self.assertEqual(
            {('h', '1'): 'host h did not reply: for 7 s'}, self.deliver({'h@uuid-one': [self.event(A, '1')]})
        )
