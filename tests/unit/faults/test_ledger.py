"""The ledger of the fault runs reports each problem, and no other event."""

import dataclasses

from tests import base
from tests.faults import ledger

SERVER, OTHER = 'server-1', 'server-2'
BOUND = 3.0
PLACES = {
    SERVER: [ledger.Placed(frozenset({'host-a'}), 0.0)],
    OTHER: [ledger.Placed(frozenset({'host-a', 'host-b'}), 0.0)],
}


def answered(sequence, *, server=SERVER, code=200, sent=1.0, took=0.1):
    return ledger.Answered(f'{server}.{sequence}', server, sequence, code, sent, sent + took, took)


def handled(sequence, *, server=SERVER, host='host-a', incarnation='1', at=1.05):
    return ledger.Handled(f'{server}.{sequence}', server, host, incarnation, at)


class TestAudit(base.TestCase):
    def audit(self, events, record, *, places=PLACES, **more):
        return ledger.audit(events, record, places, bound=BOUND, **more)

    def check(self, events, record, **expected):
        found = self.audit(events, record)
        self.assertEqual(ledger.Audit(**expected), dataclasses.replace(found, **_as_tuples(found)))

    def test_correct_run_has_no_problems(self):
        self.check([answered(1), answered(2)], [handled(1), handled(2)])

    def test_lost_event_is_reported(self):
        self.check([answered(1), answered(2)], [handled(1)], lost=(f'{SERVER}.2',))
        self.assertTrue(self.audit([answered(1)], []).broken)

    def test_event_that_was_not_answered_200_is_not_lost(self):
        self.check([answered(1, code=503), answered(2, code=ledger.BROKEN)], [])

    def test_event_lost_on_one_of_two_hosts(self):
        event = answered(1, server=OTHER)
        self.check([event], [handled(1, server=OTHER)], lost=(event.tag,))
        self.check([event], [handled(1, server=OTHER), handled(1, server=OTHER, host='host-b')])

    def test_reported_expiry_is_not_a_loss(self):
        found = self.audit([answered(1)], [], expired={f'{SERVER}.1'})
        self.assertEqual(([], [f'{SERVER}.1'], False), (found.lost, found.expired, found.broken))

    def test_event_handled_twice(self):
        self.check([answered(1)], [handled(1), handled(1)], doubled=(f'{SERVER}.1',))
        self.assertTrue(self.audit([answered(1)], [handled(1), handled(1)]).broken)

    def test_event_handled_twice_that_was_not_answered_200(self):
        self.check(
            [answered(1, code=503)],
            [handled(1), handled(1)],
            doubled=(f'{SERVER}.1',),
            handled_without_200=(f'{SERVER}.1',),
        )

    def test_event_handled_by_two_processes_of_an_agent_is_not_doubled(self):
        self.check([answered(1)], [handled(1), handled(1, incarnation='2')])

    def test_event_on_two_hosts_is_not_doubled(self):
        event = answered(1, server=OTHER)
        self.check([event], [handled(1, server=OTHER), handled(1, server=OTHER, host='host-b')])

    def test_events_out_of_order(self):
        self.check([answered(1), answered(2)], [handled(2), handled(1)], disordered=(f'{SERVER}.1',))
        self.assertTrue(self.audit([answered(1), answered(2)], [handled(2), handled(1)]).broken)

    def test_only_events_answered_200_have_an_order(self):
        self.check(
            [answered(1, code=503), answered(2)],
            [handled(2), handled(1)],
            handled_without_200=(f'{SERVER}.1',),
        )

    def test_order_is_per_server_and_host(self):
        others = [handled(1, server=OTHER), handled(1, server=OTHER, host='host-b')]
        self.check([answered(1, server=OTHER), answered(2)], [handled(2), *others])
        events = [answered(1, server=OTHER), answered(2, server=OTHER)]
        record = [handled(n, server=OTHER, host=host) for host in ('host-b', 'host-a') for n in (1, 2)]
        self.check(events, record)

    def test_event_out_of_order_on_two_hosts_counts_once(self):
        events = [answered(1, server=OTHER), answered(2, server=OTHER)]
        record = [handled(n, server=OTHER, host=host) for host in ('host-b', 'host-a') for n in (2, 1)]
        self.check(events, record, disordered=(f'{OTHER}.1',))

    def test_repeated_handling_by_another_process_keeps_the_order(self):
        self.check([answered(1), answered(2)], [handled(1), handled(2), handled(1, incarnation='2')])

    def test_overdue_answer(self):
        event = answered(1, took=BOUND + 0.1)
        self.check([event], [handled(1)], overdue=(event.tag,))
        event = answered(1, took=BOUND + 0.1, code=ledger.BROKEN)
        self.check([event], [], overdue=(event.tag,))
        self.check([answered(1, took=BOUND)], [handled(1)])

    def test_answer_delayed_by_the_machine_is_not_overdue(self):
        event = dataclasses.replace(answered(1, took=BOUND + 1.0), stalled=1.1)
        self.check([event], [handled(1)])

    def test_late_delivery_is_not_a_problem(self):
        found = self.audit([answered(1)], [handled(1, at=9.0)])
        self.assertEqual(([f'{SERVER}.1'], False), (found.late, found.broken))
        # Another life of the agent handles it again; the first handling was in time.
        self.check([answered(1)], [handled(1), handled(1, at=9.0, incarnation='2')])

    def test_events_that_were_never_sent(self):
        self.check([], [handled(1)], unsent=(f'{SERVER}.1',))
        self.assertEqual([], self.audit([], [handled(1)], others={f'{SERVER}.1'}).unsent)

    def test_audit_of_a_part_of_the_events(self):
        found = self.audit([answered(1), answered(2, server=OTHER)], [])
        self.assertEqual([f'{SERVER}.1'], found.of({f'{SERVER}.1', 'another'}).lost)
        self.assertFalse(found.of({'another'}).broken)


class TestPlaces(base.TestCase):
    """A server that moves may get its events before or after the move."""

    PLACES = {
        SERVER: [
            ledger.Placed(frozenset({'host-a'}), 0.0),
            ledger.Placed(frozenset({'host-b'}), 10.0),
        ]
    }

    def missing(self, event, *hosts):
        return ledger.unfinished([event], [handled(event.sequence, host=host) for host in hosts], self.PLACES)

    def test_event_sent_before_the_move(self):
        self.assertEqual([], self.missing(answered(1, sent=9.0), 'host-a'))
        self.assertEqual([], self.missing(answered(1, sent=9.0), 'host-b'))
        self.assertEqual([f'{SERVER}.1'], self.missing(answered(1, sent=9.0)))

    def test_event_sent_after_the_move(self):
        self.assertEqual([f'{SERVER}.1'], self.missing(answered(1, sent=11.0), 'host-a'))
        self.assertEqual([], self.missing(answered(1, sent=11.0), 'host-b'))


def _as_tuples(found):
    return {field.name: tuple(getattr(found, field.name)) for field in dataclasses.fields(found)}
