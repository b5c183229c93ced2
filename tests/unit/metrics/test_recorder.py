import contextlib
import gc
import inspect
import time

from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.messaging import gate
from external_events_router.messaging.amqp import availability
from external_events_router.metrics import catalogue
from external_events_router.metrics import file_recorder
from external_events_router.metrics import recorder
from external_events_router.metrics import senders
from external_events_router.resolver import answers as host_answers
from tests import base
from tests.unit.metrics import fixtures as metrics_fixtures

SERVER = '00000001-0000-4000-8000-000000000000'


def outcome(code=events.Code.DELIVERED, name='network-changed', reason=None):
    return events.Outcome(events.Event(name, SERVER), code, reason)


class RecorderTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.recording = self.useFixture(metrics_fixtures.Recording())
        self.recorder = self.recording.recorder

    def check(self, expected, sample, /, **labels):
        self.assertEqual(expected, self.recording.value(f'external_events_{sample}', **labels))

    def test_every_method_of_the_interface_counts(self):
        for name, method in inspect.getmembers(recorder.Recorder, inspect.isfunction):
            self.assertIsNot(method, getattr(file_recorder.FileRecorder, name), name)

    def test_without_metrics_there_is_a_recorder_that_ignores_everything(self):
        ignoring = recorder.Recorder()
        ignoring.request_ended('200 OK')
        ignoring.batch_answered([outcome()], user=None, seconds=1.0)
        ignoring.broker_lost('connection', True)
        ignoring.ended(['expired'])
        self.check(0.0, 'requests_total', status='200')

    def test_the_process_has_one_recorder(self):
        self.assertIs(self.recorder, recorder.current())

    def test_statuses_of_requests(self):
        for status in ('200 OK', '207 Multi-Status', '401 Unauthorized', '418 teapot', ''):
            self.recorder.request_ended(status)
        self.check(1.0, 'requests_total', status='401')
        self.check(2.0, 'requests_total', status='other')

    def test_events_by_name_and_code(self):
        batch = [outcome(), outcome(), outcome(events.Code.UNDELIVERED, 'volume-extended')]
        self.recorder.batch_answered(batch, user='nova', seconds=0.2)
        self.check(2.0, 'total', name='network-changed', code='200')
        self.check(1.0, 'total', name='volume-extended', code='503')
        self.check(1.0, 'request_seconds_count')
        self.check(0.2, 'request_seconds_sum')

    def test_a_batch_counts_once_for_its_sender(self):
        began = time.time()
        self.recorder.batch_answered([outcome(), outcome()], user='nova', seconds=0.2)
        self.check(1.0, 'sender_posts_total', sender='neutron')
        self.check(0.0, 'sender_posts_total', sender='cinder')
        name = 'external_events_sender_last_post_timestamp_seconds'
        self.assertGreaterEqual(self.recording.value(name, sender='neutron'), began)
        self.assertEqual(0.0, self.recording.value(name, sender='cinder'))

    def test_time_of_delivery_is_that_of_events_which_are_not_held(self):
        batch = [outcome(), outcome(reason='held: no consumer'), outcome(events.Code.REFUSED)]
        self.recorder.batch_routed(batch, seconds=0.3)
        self.check(1.0, 'delivery_seconds_count', path='direct')
        self.recorder.redelivered([4.0, 20.0])
        self.check(2.0, 'delivery_seconds_count', path='held')
        self.check(24.0, 'delivery_seconds_sum', path='held')
        self.check(2.0, 'ended_total', state='delivered')

    def test_answers_of_hosts(self):
        answers = [
            host_answers.Answer(events.Verdict.HANDLED),
            host_answers.Answer(events.Verdict.NOT_HERE),
            host_answers.Answer(events.Verdict.REFUSED),
            host_answers.Answer(None),
            host_answers.Answer(None, 'the broker is unavailable', asked=False),
        ]
        self.recorder.hosts_answered(answers, path=recorder.DIRECT, seconds=1.0)
        for result in catalogue.RESULTS:
            self.check(1.0, 'deliveries_total', path='direct', result=result)
        self.check(1.0, 'ack_seconds_count', path='direct')
        self.check(0.0, 'ack_seconds_count', path='held')

    def test_nothing_is_counted_where_no_host_is_asked(self):
        self.recorder.hosts_answered([], path=recorder.DIRECT, seconds=1.0)
        self.check(0.0, 'ack_seconds_count', path='direct')

    def test_lookups(self):
        for result in catalogue.LOOKUPS:
            self.recorder.looked_up(result, 0.01)
            self.check(1.0, 'lookups_total', result=result)
        self.check(3.0, 'lookup_seconds_count')

    def test_hold(self):
        self.recorder.held(3, stored=True)
        self.recorder.held(2, stored=False)
        self.recorder.ended(['expired', 'expired', 'refused'])
        self.check(3.0, 'hold_total', result='held')
        self.check(2.0, 'hold_total', result='failed')
        self.check(2.0, 'ended_total', state='expired')
        self.check(1.0, 'ended_total', state='refused')

    def test_breakers(self):
        self.recorder.breakers_changed(opened=3)
        self.recorder.breakers_changed(closed=1)
        self.recorder.hosts_counted(open_breakers=2, known=40)
        self.check(3.0, 'breaker_changes_total', change='opened')
        self.check(1.0, 'breaker_changes_total', change='closed')
        self.check(2.0, 'breakers_open')
        self.check(40.0, 'hosts_known')

    def test_broker_is_up_until_a_connection_is_lost(self):
        one, other = Connection(), Connection()
        self.check(1.0, 'broker_up')
        self.recorder.broker_lost(one, True)
        self.recorder.broker_lost(other, True)
        self.check(0.0, 'broker_up')
        self.check(1.0, 'broker_losses_total')
        self.recorder.broker_lost(one, False)
        self.check(0.0, 'broker_up')
        self.recorder.broker_lost(other, False)
        self.check(1.0, 'broker_up')
        self.recorder.broker_lost(other, False)
        self.recorder.broker_lost(one, True)
        self.check(2.0, 'broker_losses_total')

    def test_a_connection_that_does_not_exist_any_longer_is_not_lost(self):
        one, other = Connection(), Connection()
        self.recorder.broker_lost(one, True)
        del one
        gc.collect()
        self.recorder.broker_lost(other, True)
        self.check(2.0, 'broker_losses_total')
        self.recorder.broker_lost(other, False)
        self.check(1.0, 'broker_up')

    def test_broker_that_blocks(self):
        one = Connection()
        self.recorder.broker_blocked(one, True)
        self.check(1.0, 'broker_blocked')
        self.recorder.broker_blocked(one, False)
        self.check(0.0, 'broker_blocked')
        self.check(1.0, 'broker_up')

    def test_journal(self):
        self.recorder.journal_written(10)
        self.recorder.journal_dropped(4)
        self.check(10.0, 'journal_rows_total')
        self.check(4.0, 'journal_dropped_total')

    def test_rejected_items(self):
        self.recorder.rejected('event')
        self.recorder.rejected('a kind of a later release')
        self.check(1.0, 'rejected_total', kind='event')
        self.check(1.0, 'rejected_total', kind='other')

    def test_agent(self):
        self.recorder.agent_delivery_ended({'handled': 2, 'not-here': 1, 'without room': 1}, seconds=0.1)
        self.recorder.agent_reported(accepted=True)
        self.recorder.agent_reported(accepted=False)
        self.check(2.0, 'agent_events_total', result='handled')
        self.check(1.0, 'agent_events_total', result='not_here')
        self.check(1.0, 'agent_events_total', result='without_room')
        self.check(1.0, 'agent_delivery_seconds_count')
        self.check(1.0, 'agent_reports_total', result='accepted')
        self.check(1.0, 'agent_reports_total', result='failed')


class BrokerTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.recording = self.useFixture(metrics_fixtures.Recording())

    def state(self):
        return tuple(
            self.recording.value(f'external_events_broker_{name}')
            for name in ('up', 'blocked', 'losses_total')
        )

    def test_connections_to_rabbitmq(self):
        state = availability.Availability('broker:5672')
        connections = [Connection() for _ in range(2)]
        for connection in connections:
            state.lost(connection, 'refused')
        self.assertEqual((0.0, 0.0, 1.0), self.state())
        state.connected(connections[0])
        self.assertEqual((0.0, 0.0, 1.0), self.state())
        state.connected(connections[1])
        self.assertEqual((1.0, 0.0, 1.0), self.state())
        state.alarm.add(connections[0], 'low on disk')
        self.assertEqual((1.0, 1.0, 1.0), self.state())
        state.closed(connections[0])
        self.assertEqual((1.0, 0.0, 1.0), self.state())

    def test_broker_that_oslo_messaging_casts_to(self):
        now = [100.0]
        casts = gate.BrokerGate('the broker of cell 1', clock=lambda: now[0])
        with contextlib.suppress(exceptions.BrokerUnavailable):
            with casts.cast():
                raise exceptions.BrokerUnavailable(reason='refused')
        self.assertEqual((0.0, 0.0, 1.0), self.state())
        now[0] += gate.PAUSE
        with casts.cast():
            pass
        self.assertEqual((1.0, 0.0, 1.0), self.state())

    def test_a_broker_to_which_nothing_is_cast_any_longer(self):
        now = [100.0]
        casts = gate.BrokerGate('the broker of cell 1', clock=lambda: now[0])

        def fail():
            with contextlib.suppress(exceptions.BrokerUnavailable):
                with casts.cast():
                    raise exceptions.BrokerUnavailable(reason='refused')

        fail()
        now[0] += gate.MEMORY - 1
        fail()
        casts.forget()
        self.assertEqual((0.0, 0.0, 1.0), self.state())
        now[0] += gate.MEMORY
        casts.forget()
        self.assertEqual((1.0, 0.0, 1.0), self.state())
        fail()
        self.assertEqual((0.0, 0.0, 2.0), self.state())

    def test_a_timer_reports_it(self):
        self.patch(gate, 'MEMORY', 0.05)
        casts = gate.BrokerGate('the broker of cell 1')
        with contextlib.suppress(exceptions.BrokerUnavailable):
            with casts.cast():
                raise exceptions.BrokerUnavailable(reason='refused')
        deadline = time.monotonic() + 20
        while self.state() != (1.0, 0.0, 1.0):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_rejected_item(self):
        rejected.ALL.note('result', 'it is dropped', {})
        self.assertEqual(1.0, self.recording.value('external_events_rejected_total', kind='result'))


class Connection:
    pass


class SendersTest(base.TestCase):
    def test_every_event_has_a_sender(self):
        self.assertEqual(set(events.EVENT_TYPES), set(catalogue.SENDER_OF_NAME))
        self.assertLessEqual(set(catalogue.SENDER_OF_NAME.values()), set(catalogue.SENDERS))

    def test_sender_by_user_and_event(self):
        names = senders.Senders({'svc-network': 'neutron', 'nova-ops': 'other'})
        for event, user, sender in (
            ('network-changed', None, 'neutron'),
            ('network-changed', 'nova', 'neutron'),
            ('volume-extended', 'nova', 'cinder'),
            ('power-update', 'Nova-service', 'ironic'),
            ('accelerator-request-bound', 'noauth', 'cyborg'),
            ('network-changed', 'neutron', 'neutron'),
            ('network-changed', 'ironic', 'ironic'),
            ('network-changed', 'region-1-cinder', 'cinder'),
            ('network-changed', 'svc-network', 'neutron'),
            ('network-changed', 'admin', 'other'),
            ('network-changed', 'nova-ops', 'other'),
            ('an-event-of-a-later-release', 'nova', 'other'),
        ):
            self.assertEqual(sender, names.sender_of(event, user), (event, user))
