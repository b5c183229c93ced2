"""``external-events-manage held``; tests/unit/resolver/hold has the changes of the tables."""

import csv
import io
import json

import sqlalchemy as sa

from external_events_router.db import models
from external_events_router.journal import reads
from external_events_router.journal import reasons
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import store
from tests.programs import test_manage
from tests.unit.db import databases
from tests.unit.resolver.hold import scenarios

A, B = scenarios.A, scenarios.B


class TestHeld(test_manage.ManageTestCase):
    def setUp(self):
        super().setUp()
        self.database = databases.database(f'sqlite:///{self.folder}/router.db')
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)
        self.store = store.HoldStore(self.database)
        self.items = [scenarios.item(A, str(n), hosts=['host-a', 'host-b']) for n in range(3)]
        self.items.append(scenarios.item(B, hosts=['host-b'], reason='host-b: silent'))
        self.store.hold(self.items[:3], scenarios.CONTEXT, retry_after=60.0)
        self.store.hold(self.items[3:], scenarios.CONTEXT, retry_after=0.0)
        self.a0, self.a1, self.a2, self.b = (item.event.id for item in self.items)

    def expire(self):
        """Let the held events of server B expire."""
        (claim,) = self.store.claim('worker', limit=9, lease=9.0)
        ended = {claim.events[0].seq: (base.State.EXPIRED, 'late')}
        self.store.settle('worker', [base.Settlement(B, max(ended), ended=ended)])

    def due(self):
        return sorted(claim.server_uuid for claim in self.store.claim('a worker', limit=9, lease=0.0))

    def test_list(self):
        self.expire()
        answers = self.manage(
            'held list -f json',
            'held list -f json --long --state expired',
            'held list -f csv --host host-a --limit 2 -c event -c hosts',
            f'held list -f value --server {A.upper()} --limit 3 -c event',
            'held list --limit 0',
            'held list --host unknown -f json',
        )
        every, expired, some, of_a, table, none = answers
        self.assertEqual(
            [(self.a0, 'held'), (self.a1, 'held'), (self.a2, 'held'), (self.b, 'expired')],
            [(row['event'], row['state']) for row in json.loads(every[1])],
        )
        (row,) = json.loads(expired[1])
        self.assertEqual(
            (self.b, B, ['host-b'], 'req-2', 1, 'late', None, 'completed', 'network-changed'),
            tuple(
                row[name]
                for name in (
                    'event',
                    'server',
                    'hosts',
                    'request',
                    'attempts',
                    'reason',
                    'tag',
                    'status',
                    'name',
                )
            ),
        )
        self.assertIsNone(row['expires_at'])
        for time in (row['ended_at'], row['held_at']):
            self.assertRegex(time, r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$')
        self.assertEqual(
            [['event', 'hosts'], [self.a0, 'host-a, host-b'], [self.a1, 'host-a, host-b']],
            list(csv.reader(io.StringIO(some[1]))),
        )
        self.assertRegex(
            some[2], r'^There are more than 2 events; use --limit to list more, or --marker held-\d+\.\n$'
        )
        self.assertEqual(([self.a0, self.a1, self.a2], ''), (of_a[1].split(), of_a[2]))
        self.assertIn(f'| {self.b} | expired |', table[1])
        self.assertEqual([0, '[]', ''], [none[0], none[1].strip(), none[2]])

    def test_list_continues_after_a_marker(self):
        self.expire()
        (first,) = self.manage('held list -f value -c event --limit 2')
        marker = first[2].split()[-1].rstrip('.')
        rest, wrong = self.manage(
            f'held list -f value -c event --marker {marker}', 'held list --marker ended-x'
        )
        self.assertEqual([self.a0, self.a1, self.a2, self.b], [*first[1].split(), *rest[1].split()])
        self.assertEqual((2, ''), tuple(wrong[:2]))
        self.assertIn('is not a marker', wrong[2])

    def test_count(self):
        self.expire()
        every, expired = self.manage('held count -f json', 'held count -f csv --state expired')
        self.assertEqual(
            [('expired', 'network-changed', 1), ('held', 'network-changed', 3)],
            [tuple(row.values()) for row in json.loads(every[1])],
        )
        self.assertEqual(
            [['state', 'name', 'events'], ['expired', 'network-changed', '1']],
            list(csv.reader(io.StringIO(expired[1]))),
        )

    def test_show(self):
        shown, unknown = self.manage(f'held show {self.b} -f json', 'held show nonsense')
        row = json.loads(shown[1])
        self.assertEqual(
            (self.b, 'held', 'req-2', 0, 'host-b: silent'),
            tuple(row[name] for name in ('event', 'state', 'request', 'attempts', 'reason')),
        )
        self.assertIn('no event nonsense', self.refused(unknown))

    def test_retry(self):
        self.assertEqual([B], self.due())
        by_host, ttl, unknown = self.manage(
            'held retry --host host-a -f json', 'held retry --ttl 5', f'held retry {self.a0} nonsense'
        )
        self.assertEqual({'servers_rescheduled': 1, 'events_requeued': 0}, json.loads(by_host[1]))
        self.assertEqual([A, B], self.due())
        self.assertIn('--ttl requires event ids', self.refused(ttl))
        self.assertIn('nonsense', self.refused(unknown))
        (every,) = self.manage('held retry -f value')
        self.assertEqual('2\n0\n', every[1])

    def test_retry_of_ended_events(self):
        self.expire()
        again, shown = self.manage(f'held retry {self.b} --ttl 4000 -f json', f'held show {self.b} -f json')
        self.assertEqual({'servers_rescheduled': 1, 'events_requeued': 1}, json.loads(again[1]))
        self.assertEqual('held', json.loads(shown[1])['state'])
        (claim,) = self.store.claim('worker', limit=9, lease=9.0)
        self.assertAlmostEqual(4000, claim.events[0].remaining, delta=100)
        self.assertEqual(self.items[3].event, claim.events[0].event)

    def test_retry_of_a_damaged_event_and_another_event(self):
        self.expire()
        with self.database.writing() as connection:
            ended = models.EndedEvent.__table__
            row = dict(connection.execute(sa.select(ended)).one()._mapping)
            damaged = {**row, 'seq': row['seq'] + 1, 'event_id': 'damaged', 'event': '{', 'state': 'damaged'}
            connection.execute(sa.insert(ended).values(damaged))
        (again,) = self.manage(f'held retry damaged {self.b} -f json')
        self.assertEqual(
            (0, {'servers_rescheduled': 1, 'events_requeued': 1}), (again[0], json.loads(again[1]))
        )
        self.assertIn('1 events were not held again', again[2])
        (listed,) = self.manage('held list --state damaged -f value -c event')
        self.assertEqual(['damaged'], listed[1].split())
        self.assertEqual({self.b}, self.recorded(reasons.Step.HELD))

    def test_hosts_that_have_acknowledged(self):
        held = scenarios.item(B, hosts=['host-b'], acknowledged=['host-a'])
        self.store.hold([held], scenarios.CONTEXT, retry_after=60.0)
        listed, shown = self.manage(
            f'held list --server {B} -f value -c event -c hosts -c acknowledged',
            f'held show {held.event.id} -f json',
        )
        self.assertIn(f"{held.event.id} ['host-b'] ['host-a']", listed[1].splitlines())
        self.assertEqual(['host-a'], json.loads(shown[1])['acknowledged'])

    def test_drop(self):
        one, unsure, unknown, rest, listed = self.manage(
            f'held drop {self.a1} -f json',
            'held drop --host host-a',
            f'held drop {self.a0} nonsense',
            'held drop --host host-a --yes -f json',
            'held list -f value -c event',
        )
        dropped = json.loads(one[1])
        self.assertEqual((1, ['host-a', 'host-b']), (dropped['dropped'], dropped['may_be_handled_by']))
        self.assertRegex(dropped['may_be_handled_until'], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$')
        self.assertIn('--yes', self.refused(unsure))
        self.assertIn('nonsense', self.refused(unknown))
        self.assertEqual(2, json.loads(rest[1])['dropped'])
        self.assertEqual([self.b], listed[1].split())
        self.assertEqual({self.a0, self.a1, self.a2}, self.recorded(reasons.Step.DROPPED))

    def recorded(self, kind):
        """Events for which the journal contains a step, with the operator."""
        reader = reads.Reader(self.database)
        found = reader.steps(reads.Selection(kinds=frozenset({kind})), reads.Period(0, reader.now()))
        self.assertTrue(all('@' in step.actor for step in found))
        return {step.event_id for step in found}
