"""The ledger of the fault runs screams when it should, and only then."""

import dataclasses

from tests import base
from tests.faults import ledger

SERVER, OTHER = 'server-1', 'server-2'
BOUND = 3.0
PLACES = {
    SERVER: [ledger.Placed(frozenset({'host-a'}), 0.0)],
    OTHER: [ledger.Placed(frozenset({'host-a', 'host-b'}), 0.0)],
}


def told(sequence, *, server=SERVER, code=200, sent=1.0, took=0.1):
    return ledger.Told(f'{server}.{sequence}', server, sequence, code, sent, sent + took, took)


def handled(sequence, *, server=SERVER, host='host-a', incarnation='1', at=1.05):
    return ledger.Handled(f'{server}.{sequence}', server, host, incarnation, at)


class TestAudit(base.TestCase):
    def audit(self, events, record, *, places=PLACES, **more):
        return ledger.audit(events, record, places, bound=BOUND, **more)

    def check(self, events, record, **expected):
        found = self.audit(events, record)
        self.assertEqual(ledger.Audit(**expected), dataclasses.replace(found, **_as_tuples(found)))

    def test_all_is_well(self):
        self.check([told(1), told(2)], [handled(1), handled(2)])

    def test_lost(self):
        self.check([told(1), told(2)], [handled(1)], lost=(f'{SERVER}.2',))
        self.assertTrue(self.audit([told(1)], []).broken)

    def test_not_promised_so_not_lost(self):
        self.check([told(1, code=503), told(2, code=ledger.BROKEN)], [])

    def test_lost_on_one_of_two_hosts(self):
        event = told(1, server=OTHER)
        self.check([event], [handled(1, server=OTHER)], lost=(event.tag,))
        self.check([event], [handled(1, server=OTHER), handled(1, server=OTHER, host='host-b')])

    def test_expired_in_the_open_is_not_lost(self):
        found = self.audit([told(1)], [], expired={f'{SERVER}.1'})
        self.assertEqual(([], [f'{SERVER}.1'], False), (found.lost, found.expired, found.broken))

    def test_doubled(self):
        self.check([told(1)], [handled(1), handled(1)], doubled=(f'{SERVER}.1',))
        self.assertTrue(self.audit([told(1)], [handled(1), handled(1)]).broken)

    def test_doubled_though_it_was_not_promised(self):
        self.check(
            [told(1, code=503)],
            [handled(1), handled(1)],
            doubled=(f'{SERVER}.1',),
            unpromised=(f'{SERVER}.1',),
        )

    def test_twice_in_two_lives_is_not_doubled(self):
        self.check([told(1)], [handled(1), handled(1, incarnation='2')])

    def test_on_two_hosts_is_not_doubled(self):
        event = told(1, server=OTHER)
        self.check([event], [handled(1, server=OTHER), handled(1, server=OTHER, host='host-b')])

    def test_out_of_order(self):
        self.check([told(1), told(2)], [handled(2), handled(1)], disordered=(f'{SERVER}.1',))
        self.assertTrue(self.audit([told(1), told(2)], [handled(2), handled(1)]).broken)

    def test_order_is_that_of_promised_events(self):
        self.check([told(1, code=503), told(2)], [handled(2), handled(1)], unpromised=(f'{SERVER}.1',))

    def test_order_is_per_server_and_host(self):
        others = [handled(1, server=OTHER), handled(1, server=OTHER, host='host-b')]
        self.check([told(1, server=OTHER), told(2)], [handled(2), *others])
        events = [told(1, server=OTHER), told(2, server=OTHER)]
        record = [handled(n, server=OTHER, host=host) for host in ('host-b', 'host-a') for n in (1, 2)]
        self.check(events, record)

    def test_out_of_order_on_two_hosts_is_one_event(self):
        events = [told(1, server=OTHER), told(2, server=OTHER)]
        record = [handled(n, server=OTHER, host=host) for host in ('host-b', 'host-a') for n in (2, 1)]
        self.check(events, record, disordered=(f'{OTHER}.1',))

    def test_again_behind_a_later_one_in_another_life_keeps_the_order(self):
        self.check([told(1), told(2)], [handled(1), handled(2), handled(1, incarnation='2')])

    def test_overdue(self):
        event = told(1, took=BOUND + 0.1)
        self.check([event], [handled(1)], overdue=(event.tag,))
        event = told(1, took=BOUND + 0.1, code=ledger.BROKEN)
        self.check([event], [], overdue=(event.tag,))
        self.check([told(1, took=BOUND)], [handled(1)])

    def test_overdue_by_the_machine_alone(self):
        event = dataclasses.replace(told(1, took=BOUND + 1.0), stalled=1.1)
        self.check([event], [handled(1)])

    def test_late_is_no_fault(self):
        found = self.audit([told(1)], [handled(1, at=9.0)])
        self.assertEqual(([f'{SERVER}.1'], False), (found.late, found.broken))
        # Another life handles it again: it had been there in time.
        self.check([told(1)], [handled(1), handled(1, at=9.0, incarnation='2')])

    def test_strangers(self):
        self.check([], [handled(1)], strangers=(f'{SERVER}.1',))
        self.assertEqual([], self.audit([], [handled(1)], others={f'{SERVER}.1'}).strangers)

    def test_part(self):
        found = self.audit([told(1), told(2, server=OTHER)], [])
        self.assertEqual([f'{SERVER}.1'], found.of({f'{SERVER}.1', 'another'}).lost)
        self.assertFalse(found.of({'another'}).broken)


class TestPlaces(base.TestCase):
    """A server that moves gets its events before or after it."""

    PLACES = {
        SERVER: [
            ledger.Placed(frozenset({'host-a'}), 0.0),
            ledger.Placed(frozenset({'host-b'}), 10.0),
        ]
    }

    def missing(self, event, *hosts):
        return ledger.unfinished([event], [handled(event.sequence, host=host) for host in hosts], self.PLACES)

    def test_sent_before_the_move(self):
        self.assertEqual([], self.missing(told(1, sent=9.0), 'host-a'))
        self.assertEqual([], self.missing(told(1, sent=9.0), 'host-b'))
        self.assertEqual([f'{SERVER}.1'], self.missing(told(1, sent=9.0)))

    def test_sent_after_the_move(self):
        self.assertEqual([f'{SERVER}.1'], self.missing(told(1, sent=11.0), 'host-a'))
        self.assertEqual([], self.missing(told(1, sent=11.0), 'host-b'))


def _as_tuples(found):
    return {field.name: tuple(getattr(found, field.name)) for field in dataclasses.fields(found)}
