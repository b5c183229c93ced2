"""The verdict about a server: a table of records and the expected verdicts."""

import pathlib

import external_events_router
from external_events_router.journal import next_steps
from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import verdicts
from tests import base
from tests.unit.journal import histories as h

AGENT = next_steps.Site()
COMPUTE = next_steps.Site(nova=True, broker_acknowledges=True)

V = verdicts.Verdict

#: Records, what runs on the hosts, the verdict, a part of the sentence, and a part of the step.
TABLE = {
    'never posted': (h.history(), AGENT, V.NEVER_POSTED, 'records of all workers are complete', 'Neutron'),
    'never posted, for a port': (
        h.history(port=h.PORT, others=(h.event(name='network-changed', tag='port-2'),)),
        AGENT,
        V.NEVER_POSTED,
        'Other events of the server did arrive: 1 x network-changed (port-2)',
        next_steps.NOT_POSTED,
    ),
    'never posted, by Cinder': (
        h.history(name='volume-extended'),
        AGENT,
        V.NEVER_POSTED,
        'No sender posted volume-extended',
        '/var/log/cinder/cinder-volume.log',
    ),
    'worker killed': (
        h.history(gaps=(h.gap('killed', 0, 12.5),)),
        AGENT,
        V.INCOMPLETE_RECORD,
        'incomplete for 12.5 s of this period: a worker was killed before it had written its records '
        '(worker controller:1)',
        next_steps.NOT_POSTED,
    ),
    'worker that cannot reach the journal': (
        h.history(gaps=(h.gap('silent', 0, 60),)),
        AGENT,
        V.INCOMPLETE_RECORD,
        'a worker was killed, or it cannot reach the database of the journal (worker controller:1)',
        'external-events-manage journal workers',
    ),
    'queue of the writer full': (
        h.history(gaps=(h.gap('queue_full', 0, 1), h.gap('database', 0, 10))),
        AGENT,
        V.INCOMPLETE_RECORD,
        'the database did not accept the records',
        next_steps.NOT_POSTED,
    ),
    'incomplete, and a request of an unknown sender refused': (
        h.history(gaps=(h.gap('killed'),), refusals=(h.refusal('not_authenticated', 401),)),
        AGENT,
        V.INCOMPLETE_RECORD,
        'a worker was killed',
        next_steps.NOT_POSTED,
    ),
    'sender without a token': (
        h.history(refusals=(h.refusal('not_authenticated', 401),)),
        AGENT,
        V.REFUSED,
        'a client without a valid token at 192.0.2.7 was refused with 401',
        'correct the user and password in its section [nova]',
    ),
    'body that cannot be parsed': (
        h.history(refusals=(h.refusal('bad_request', 400, detail='malformed JSON', user_name='neutron'),)),
        AGENT,
        V.REFUSED,
        'neutron at 192.0.2.7 was refused with 400: malformed JSON',
        'req-own',
    ),
    'refused batch with more servers than are recorded': (
        h.history(refusals=(h.refusal('not_routed', 207, servers=('other',) * records.MAX_NAMED),)),
        AGENT,
        V.INCOMPLETE_RECORD,
        'the journal names only 20 servers of this request',
        'req-own',
    ),
    'refused batch with a server that is not a uuid': (
        h.history(refusals=(h.refusal('bad_request', 400, servers=(f'{h.SERVER} ',)),)),
        AGENT,
        V.INCOMPLETE_RECORD,
        'not every server in this request is a uuid',
        'req-own',
    ),
    'more refused requests than are recorded': (
        h.history(refusals=(h.refusal('bad_request', 400, servers=('other',), suppressed=3),)),
        AGENT,
        V.INCOMPLETE_RECORD,
        '3 more refused requests of this sender are not recorded',
        'req-own',
    ),
    'more refused requests than are read': (
        h.history(all_refusals=False),
        AGENT,
        V.INCOMPLETE_RECORD,
        'only the newest were read',
        next_steps.NOT_POSTED,
    ),
    'sender without the role': (
        h.history(refusals=(h.refusal('not_permitted', 403, user_id='u1', user_name='cinder'),)),
        AGENT,
        V.REFUSED,
        'cinder at 192.0.2.7 was refused with 403',
        'openstack role assignment list --names --user cinder',
    ),
    'batch that names the server is refused': (
        h.history(
            refusals=(h.refusal('bad_request', 400, servers=(h.SERVER,), detail='Invalid input'),),
            gaps=(h.gap('killed'),),
        ),
        AGENT,
        V.REFUSED,
        f'A request with events for server {h.SERVER} of a client',
        'req-own',
    ),
    'batch that reached no resolver': (
        h.history(refusals=(h.refusal('not_routed', 503, servers=(h.SERVER,), detail='no answer'),)),
        AGENT,
        V.NOT_HELD,
        'did not reach a resolver, and its events were answered 503: no answer',
        'systemctl status external-events-resolver',
    ),
    'tag of no meaning': (
        h.history(h.event(reason='bad_tag', detail='volume-extended needs a tag')),
        AGENT,
        V.REFUSED,
        'answered 400: volume-extended needs a tag',
        'req-sender',
    ),
    'unknown server': (
        h.history(h.event(reason='unknown_server')),
        AGENT,
        V.UNKNOWN_SERVER,
        'answered 404',
        f'external-events-manage host-map show {h.SERVER}',
    ),
    'unknown server in Nova': (
        h.history(h.event(reason='unknown_server')),
        COMPUTE,
        V.UNKNOWN_SERVER,
        'answered 404',
        f'openstack server show {h.SERVER}',
    ),
    'shelved server': (
        h.history(h.event(reason='no_host')),
        AGENT,
        V.NO_HOST,
        'answered 422, because the server is on no host',
        'host-map show',
    ),
    'server that moved away': (
        h.history(h.event(reason='not_on_host', detail='not on host-a')),
        AGENT,
        V.NO_HOST,
        'answered 422: not on host-a',
        'host-map show',
    ),
    'server without a host, held': (
        h.history(h.event(reason='held_unassigned')),
        AGENT,
        V.NO_HOST,
        'is held',
        'host-map show',
    ),
    'no queue': (
        h.history(
            h.event(reason='held_no_queue', detail='host-a: no queue'),
            steps=(h.step(1, 'attempt', attempt=1, host='host-a', detail='host-a: still no queue'),),
        ),
        AGENT,
        V.HELD_NO_QUEUE,
        'is held: host-a: no queue. Last attempt: host-a: still no queue.',
        'systemctl status external-events-agent',
    ),
    'silent host': (
        h.history(h.event(reason='held_silent_host')),
        COMPUTE,
        V.HELD_SILENT_HOST,
        'is held',
        'systemctl status openstack-nova-compute',
    ),
    'held by a worker that was killed': (
        h.history(h.event(1, 'held_no_queue'), gaps=(h.gap('killed', 5, 9),)),
        AGENT,
        V.INCOMPLETE_RECORD,
        'Its end may not be recorded, because the journal is incomplete: a worker was killed',
        f'external-events-manage held list --server {h.SERVER}',
    ),
    'held after a worker was killed': (
        h.history(h.event(10, 'held_no_queue'), gaps=(h.gap('killed', 5, 9),)),
        AGENT,
        V.HELD_NO_QUEUE,
        'is held',
        'systemctl status external-events-agent',
    ),
    'too many events in a request': (
        h.history(
            refusals=(h.refusal('too_large', 413, servers=(h.SERVER,), global_request_id='req-sender'),)
        ),
        AGENT,
        V.REFUSED,
        'refused with 413',
        'on 192.0.2.7: req-sender',
    ),
    'broker unavailable': (
        h.history(h.event(reason='held_broker_unavailable')),
        AGENT,
        V.HELD_BROKER_UNAVAILABLE,
        'is held',
        'rabbitmqctl cluster_status',
    ),
    'behind an event without a queue': (
        h.history(
            h.event(1, 'held_behind', event_id='event-2'), others=(h.event(0, 'held_no_queue', tag='port-2'),)
        ),
        AGENT,
        V.HELD_NO_QUEUE,
        'is held: held_behind',
        'systemctl status',
    ),
    'held, delivered in time': (
        h.history(
            h.event(reason='held_no_queue', detail='no queue'),
            steps=(h.step(4.5, 'delivered', host='host-a', handling=h.HANDLED),),
        ),
        AGENT,
        V.DELIVERED,
        'received by a waiter that had waited for 2.000 s. It was held for 4.5 s (no queue)',
        'another event is missing',
    ),
    'held, delivered when nothing waited': (
        h.history(
            h.event(reason='held_no_queue', detail='no queue'),
            steps=(h.step(400, 'delivered', host='host-a', handling=h.NO_WAITER),),
        ),
        AGENT,
        V.DELIVERED_LATE,
        'when nothing was waiting for it. It was held for 400.0 s (no queue)',
        'systemctl status external-events-agent',
    ),
    'held, delivered after the wait': (
        h.history(
            h.event(reason='held_silent_host'),
            steps=(h.step(400, 'delivered', handling=h.AFTER_WAIT),),
        ),
        AGENT,
        V.DELIVERED_LATE,
        '12.0 s after the wait had ended. It was held for 400.0 s (held_silent_host)',
        'systemctl status',
    ),
    'held, handled by a handler': (
        h.history(
            h.event(reason='held_silent_host'), steps=(h.step(4, 'delivered', handling=h.HANDLER_ONLY),)
        ),
        AGENT,
        V.DELIVERED,
        'handler exec ran for 12 ms',
        'another event',
    ),
    'held, given to the queue of nova-compute': (
        h.history(h.event(reason='held_no_queue'), steps=(h.step(4, 'delivered', host='host-a'),)),
        COMPUTE,
        V.HANDED_TO_BROKER,
        'nova-compute does not confirm it. It was held for 4.0 s',
        f'Received event network-vif-plugged-{h.PORT}',
    ),
    'expired': (
        h.history(h.event(reason='held_silent_host'), steps=(h.step(300, 'expired'),)),
        AGENT,
        V.EXPIRED,
        'expired after 300.0 s; no host handled it',
        'external-events-manage held retry event-1',
    ),
    'expired and held again': (
        h.history(
            h.event(reason='held_silent_host'),
            steps=(h.step(300, 'expired'), h.step(310, 'held', actor='an operator')),
        ),
        AGENT,
        V.HELD_SILENT_HOST,
        'is held',
        'systemctl status',
    ),
    'dropped': (
        h.history(
            h.event(reason='held_silent_host'), steps=(h.step(20, 'dropped', actor='root@controller'),)
        ),
        AGENT,
        V.DROPPED,
        'root@controller dropped it after 20.0 s',
        f'external-events-manage replay --server {h.SERVER} --since 1789999999 --name network-vif-plugged',
    ),
    'server that was deleted': (
        h.history(h.event(reason='held_silent_host'), steps=(h.step(20, 'gone'),)),
        AGENT,
        V.UNKNOWN_SERVER,
        'until the server no longer existed',
        'host-map show',
    ),
    'row that cannot be read': (
        h.history(h.event(reason='held_silent_host'), steps=(h.step(20, 'damaged', detail='no JSON'),)),
        AGENT,
        V.NOT_HELD,
        'could not be read and it is lost: no JSON',
        'could not be held',
    ),
    'handler failed': (
        h.history(h.event(reason='handler_failed', detail='host-a: KeyError')),
        AGENT,
        V.HANDLER_FAILED,
        'answered 500, because a handler failed or refused it: host-a: KeyError',
        f'The handler for network-vif-plugged of server {h.SERVER}',
    ),
    'handler failed after the hold': (
        h.history(
            h.event(reason='held_no_queue', hosts=('host-a', 'host-b')),
            steps=(h.step(5, 'refused', host='host-b', detail='no such port'),),
        ),
        COMPUTE,
        V.HANDLER_FAILED,
        'held for 5.0 s; then a handler failed or refused it: no such port',
        'on host-b',
    ),
    'not held': (
        h.history(h.event(reason='not_held', detail='no answer; not held: the database is away')),
        AGENT,
        V.NOT_HELD,
        'answered 503 and is lost: no answer; not held: the database is away',
        'external-events-resolver',
    ),
    'map unavailable': (
        h.history(h.event(reason='map_unavailable')),
        AGENT,
        V.NOT_HELD,
        'answered 503 and is lost',
        'external-events-resolver',
    ),
    'in time': (
        h.history(h.event(handling=h.HANDLED)),
        AGENT,
        V.DELIVERED,
        'was delivered to host-a, received by a waiter that had waited for 2.000 s',
        h.SERVER,
    ),
    'acknowledged by an older agent': (
        h.history(h.event()),
        AGENT,
        V.DELIVERED,
        'was delivered to host-a.',
        h.SERVER,
    ),
    'without a waiter': (
        h.history(h.event(handling=h.NO_WAITER)),
        AGENT,
        V.DELIVERED_WITHOUT_WAITER,
        'reached host-a in time, but nothing waited for it and no handler ran',
        'compare the time at which it began to wait with the time at which Neutron posted the event',
    ),
    'after the wait': (
        h.history(h.event(handling=h.AFTER_WAIT)),
        AGENT,
        V.DELIVERED_LATE,
        'reached host-a 12.0 s after the wait had ended',
        'Neutron',
    ),
    'before and within the wait': (
        h.history(
            h.event(0, handling=h.NO_WAITER, event_id='event-1'),
            h.event(10, handling=h.HANDLED, event_id='event-2'),
        ),
        AGENT,
        V.DELIVERED,
        'received by a waiter',
        h.SERVER,
    ),
    'within the wait, and again after it': (
        h.history(
            h.event(0, handling=h.HANDLED, event_id='event-1'),
            h.event(12, handling=h.AFTER_WAIT, event_id='event-2'),
        ),
        AGENT,
        V.DELIVERED,
        'received by a waiter',
        h.SERVER,
    ),
    'within one wait, and after the next one': (
        h.history(
            h.event(0, handling=h.HANDLED, event_id='event-1'),
            h.event(300, handling=h.AFTER_WAIT, event_id='event-2'),
        ),
        AGENT,
        V.DELIVERED_LATE,
        '12.0 s after the wait had ended',
        'Neutron',
    ),
    'one event delivered, another expired': (
        h.history(
            h.event(0, 'held_silent_host'),
            h.event(10, handling=h.HANDLED, name='network-changed', event_id='event-2'),
            steps=(h.step(300, 'expired'),),
        ),
        AGENT,
        V.EXPIRED,
        'network-vif-plugged (port-1)',
        'held retry',
    ),
    'given to the queue of nova-compute': (
        h.history(h.event(reason='handed_to_broker', hosts=('host-a@ce11',))),
        COMPUTE,
        V.HANDED_TO_BROKER,
        'The broker has network-vif-plugged (port-1)',
        'on host-a: Received event network-vif-plugged-port-1',
    ),
    'within the wait of a boot that failed': (
        h.history(h.event(10, 'handed_to_broker'), actions=(h.action(),)),
        COMPUTE,
        V.HANDED_TO_BROKER,
        'nova-compute does not confirm it',
        'Received event',
    ),
    'before the wait of a boot': (
        h.history(h.event(0.4, 'handed_to_broker'), actions=(h.action(),)),
        COMPUTE,
        V.DELIVERED_WITHOUT_WAITER,
        '0.6 s before the action create, which failed, began to wait',
        next_steps.TIMEOUT,
    ),
    'after the wait of a boot': (
        h.history(h.event(305, 'handed_to_broker'), actions=(h.action(),)),
        COMPUTE,
        V.DELIVERED_LATE,
        '4.0 s after the action create had failed',
        next_steps.TIMEOUT,
    ),
    'after a boot that succeeded': (
        h.history(h.event(305, 'handed_to_broker'), actions=(h.action(error=None),)),
        COMPUTE,
        V.HANDED_TO_BROKER,
        'nova-compute',
        'Received event',
    ),
    'after a failed boot, an event that no action waits for': (
        h.history(h.event(305, 'handed_to_broker', name='network-changed'), actions=(h.action(),)),
        COMPUTE,
        V.HANDED_TO_BROKER,
        'nova-compute',
        'Received event',
    ),
}


def step_text(step):
    """A next step as one text."""
    return ' '.join(
        each
        for each in (
            step.text,
            step.command,
            step.log,
            f'on {step.host}: {step.search}' if step.search else None,
        )
        if each
    )


class VerdictsTest(base.TestCase):
    def test_table(self):
        for name, (history, site, verdict, sentence, step) in TABLE.items():
            with self.subTest(name):
                finding = verdicts.judge(history, site)
                self.assertEqual(verdict, finding.verdict, finding.sentence)
                self.assertIn(sentence, finding.sentence)
                self.assertIn(step, step_text(finding.next_step) + f' on {finding.next_step.host}')

    def test_table_has_every_verdict(self):
        self.assertEqual(set(V), {verdict for _, _, verdict, _, _ in TABLE.values()})

    def test_table_has_every_reason(self):
        found = {event.reason for history, *_ in TABLE.values() for event in history.events}
        self.assertEqual(set(reasons.Reason) - {'held_other', 'held_map_unavailable'}, found)

    def test_every_gap_has_words(self):
        for reason in reasons.GapReason:
            finding = verdicts.judge(h.history(gaps=(h.gap(reason),)), AGENT)
            self.assertNotIn('None', finding.sentence)

    def test_each_step_is_a_command_or_a_search(self):
        for name, (history, site, *_) in TABLE.items():
            with self.subTest(name):
                step = verdicts.judge(history, site).next_step
                self.assertEqual(1, (step.command is not None) + (step.search is not None))
                self.assertTrue(step.search is None or step.log)

    def test_exit_status(self):
        found = {
            verdict: verdicts.judge(TABLE[name][0], TABLE[name][1]).exit_status
            for name, verdict in (
                ('in time', V.DELIVERED),
                ('given to the queue of nova-compute', V.HANDED_TO_BROKER),
                ('expired', V.EXPIRED),
                ('after the wait', V.DELIVERED_LATE),
                ('never posted', V.NEVER_POSTED),
                ('worker killed', V.INCOMPLETE_RECORD),
            )
        }
        self.assertEqual([0, 0, 3, 3, 4, 5], list(found.values()))

    def test_refusals_do_not_count_if_events_arrived(self):
        history = h.history(h.event(handling=h.HANDLED), refusals=(h.refusal('not_authenticated', 401),))
        self.assertEqual(V.DELIVERED, verdicts.judge(history, AGENT).verdict)

    def test_messages_to_search_for_are_those_of_the_service(self):
        root = pathlib.Path(external_events_router.__file__).parent
        sources = {path: path.read_text() for path in root.rglob('*.py') if path.name != 'next_steps.py'}
        for message in (next_steps.AGENT_HANDLER, next_steps.RESOLVER_NOT_HELD):
            self.assertTrue([path for path, text in sources.items() if message in text], message)
