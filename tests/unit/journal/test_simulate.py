"""The predicted answer to an event, as a table of facts."""

from external_events_router import events
from external_events_router.journal import simulate
from tests import base
from tests.unit.journal import histories as h

EVENT = events.Event('network-changed', h.SERVER)
WITHOUT_TAG = events.Event('volume-extended', h.SERVER)

Breaker = simulate.Breaker
OK = simulate.Host('host-a', queue=True, consumers=1, breaker=Breaker.CLOSED)
OTHER = simulate.Host('host-b', queue=True, consumers=1, breaker=Breaker.CLOSED)


def facts(*hosts, **fields):
    return simulate.Facts('database', hosts=hosts, **fields)


def host(**fields):
    return simulate.Host(
        **{'name': 'host-c', 'queue': True, 'consumers': 1, 'breaker': Breaker.CLOSED, **fields}
    )


#: Event, facts, code, reason, and a part of the text.
TABLE = {
    'delivered': (EVENT, facts(OK, OTHER), 200, 'acknowledged', 'host-a and host-b should acknowledge'),
    'nova-compute without answers': (EVENT, facts(OK, confirmed=False), 200, 'handed_to_broker', 'accepts'),
    'nothing is known of the host': (EVENT, facts(simulate.Host('host-c')), 200, 'acknowledged', 'host-c'),
    'unknown server': (EVENT, facts(known=False), 404, 'unknown_server', 'does not know'),
    'unknown server before a bad tag': (WITHOUT_TAG, facts(known=False), 404, 'unknown_server', 'not know'),
    'bad tag before a missing host': (WITHOUT_TAG, facts(), 400, 'bad_tag', 'needs a tag'),
    'no host': (EVENT, facts(), 422, 'no_host', 'on no host'),
    'no host, held': (EVENT, facts(holds_unassigned=True), 200, 'held_unassigned', 'holds the event'),
    'no host, cannot be held': (
        EVENT,
        facts(holds_unassigned=True, hold_problem='no table'),
        422,
        'no_host',
        'cannot be held: no table',
    ),
    'map unavailable': (EVENT, facts(map_problem='gone away'), 503, 'map_unavailable', '(gone away)'),
    'map unavailable, bad tag': (WITHOUT_TAG, facts(map_problem='gone'), 400, 'bad_tag', 'needs a tag'),
    'behind': (EVENT, facts(OK, host(behind=True)), 200, 'held_behind', 'host-c: earlier events'),
    'no queue': (EVENT, facts(host(queue=False)), 200, 'held_no_queue', 'does not exist'),
    'no consumer': (EVENT, facts(host(consumers=0)), 200, 'held_no_queue', 'no consumer'),
    'no consumer, by the breaker': (
        EVENT,
        facts(host(breaker=Breaker.NO_CONSUMER)),
        200,
        'held_no_queue',
        'no consumer',
    ),
    'silent': (EVENT, facts(host(breaker=Breaker.OPEN)), 200, 'held_silent_host', 'circuit breaker is open'),
    'broker unavailable': (
        EVENT,
        facts(host(queue=None, consumers=None), broker_problem='refused'),
        200,
        'held_broker_unavailable',
        'the broker does not answer',
    ),
    'silent, cannot be held': (
        EVENT,
        facts(host(breaker=Breaker.OPEN), hold_problem='no table'),
        503,
        'not_held',
        'cannot be held: no table',
    ),
}


class SimulateTest(base.TestCase):
    def test_table(self):
        for name, (event, known, code, reason, text) in TABLE.items():
            with self.subTest(name):
                predicted = simulate.predict(event, known)
                self.assertEqual((code, reason), (predicted.code, predicted.reason), predicted.text)
                self.assertIn(text, predicted.text)
