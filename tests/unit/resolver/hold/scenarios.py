"""Behaviour of the store of the hold on every database; mixed into a test case.

The test case sets ``self.url`` to the URL of an empty database.
"""

import collections
import contextlib
import itertools
import threading
import time
from unittest import mock
import uuid

from oslo_db import exception as db_exception
import sqlalchemy as sa

from external_events_router import events
from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.resolver.hold import base
from external_events_router.resolver.hold import inspection
from external_events_router.resolver.hold import store
from tests.unit.db import databases

A, B, C, D = (str(uuid.UUID(int=number)) for number in range(1, 5))
CONTEXT = {'request_id': 'req-1', 'global_request_id': 'req-2', 'auth_token': 's3cret'}

#: Seconds; longer than the longest test.
LONG = 600.0

#: Seconds after which a write that has not ended waits for a lock.
LOCKED = 3.0


def item(server, tag=None, *, hosts=('one',), ttl=300.0, reason='silent', acknowledged=(), event=None):
    return base.Item(
        event=event or events.Event('network-changed', server, tag),
        ttl=ttl,
        hosts=tuple(hosts),
        acknowledged=frozenset(acknowledged),
        reason=reason,
    )


def settled(claim, **kwargs):
    """A settlement in which all events of a claim are delivered, unless the arguments differ."""
    if not kwargs:
        kwargs = {'delivered': frozenset(held.seq for held in claim.events)}
    return base.Settlement(claim.server_uuid, last=claim.events[-1].seq, **kwargs)


class StoreCase:
    def setUp(self):
        super().setUp()
        self.database = databases.database(self.url)
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)
        self.store = store.HoldStore(self.database)
        self.inspection = inspection.Inspection(self.database)

    def hold(self, *items, retry_after=0.0):
        self.store.hold(items, CONTEXT, retry_after=retry_after)

    def claim(self, worker='worker', *, limit=100, lease=LONG):
        return self.store.claim(worker, limit=limit, lease=lease)

    def held(self, **kwargs):
        return list(self.inspection.records(inspection.Selection(state=base.State.HELD, **kwargs)))

    def ended(self, **kwargs):
        records = self.inspection.records(inspection.Selection(**kwargs))
        return [record for record in records if record.state is not base.State.HELD]

    def tags(self, claims):
        return {claim.server_uuid: [held.event.tag for held in claim.events] for claim in claims}

    def later(self, seconds):
        """Move the clock of the database forward, but not the clocks of the processes."""
        now = self.database.now
        return mock.patch.object(self.database, 'now', lambda connection: now(connection) + seconds)

    def rows(self):
        """Return the number of rows in each table of the hold."""
        with self.database.reading() as connection:
            return [
                connection.scalar(sa.select(sa.func.count()).select_from(table))
                for table in (models.HeldServer, models.HeldHost, models.HeldEvent)
            ]

    def at_once(self, *calls):
        errors = []

        def run(call):
            try:
                call()
            except Exception as exc:
                errors.append(exc)

        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([], errors)


class StoreScenarios(StoreCase):
    def test_events_are_held_claimed_and_settled(self):
        self.hold(item(A, '1'), item(B, '2'), item(A, '3', ttl=60.0))
        self.assertEqual({A: frozenset(), B: frozenset()}, self.store.servers_among([A, B, C]))
        self.assertEqual(frozenset({A, B}), self.store.servers(10))
        self.assertEqual(1, len(self.store.servers(1)))
        claims = self.claim()
        self.assertEqual({A: ['1', '3'], B: ['2']}, self.tags(claims))
        (of_a,) = [claim for claim in claims if claim.server_uuid == A]
        self.assertEqual(0, of_a.attempts)
        self.assertEqual([300, 60], [round(held.remaining) for held in of_a.events])
        self.assertEqual('req-2', of_a.events[0].context['global_request_id'])
        self.assertNotIn('s3cret', str(of_a.events[0].context))
        self.assertEqual(0, self.store.settle('worker', [settled(claim) for claim in claims]))
        self.assertEqual([0, 0, 0], self.rows())
        self.assertEqual({}, self.store.servers_among([A, B]))

    def test_first_attempt_waits_for_the_retry_interval(self):
        self.hold(item(A), retry_after=30.0)
        self.assertEqual([], self.claim())
        with self.later(31):
            self.assertEqual([A], [claim.server_uuid for claim in self.claim()])

    def test_repeated_hold_is_written_once(self):
        first, second = events.Event('network-changed', A, '1'), events.Event('network-changed', A, '2')
        self.hold(item(A, event=first, ttl=60.0))
        self.hold(item(A, event=first, ttl=900.0), item(A, event=second), item(A, event=second))
        (claim,) = self.claim()
        self.assertEqual([first, second], [held.event for held in claim.events])
        self.assertLess(claim.events[0].remaining, 61)

    def test_unusual_text_is_returned_unchanged(self):
        tag = 'tab\t, \N{SNOWMAN}, \ud800, \N{PILE OF POO}, \' " \\ %s :x'
        self.hold(item(A, tag, reason='\N{SNOWMAN}' * 1000))
        self.assertEqual({A: [tag]}, self.tags(self.claim()))
        self.assertEqual('\N{SNOWMAN}' * models.REASON_LENGTH, self.held()[0].reason)

    def test_warm_holds_no_event(self):
        self.store.warm()
        self.assertEqual([0, 0, 0], self.rows())
        with databases.statements(self.database) as sent:
            self.store.warm()
        self.assertEqual([], sent)

    def test_hold_after_a_deadlock_or_lost_connection_is_written_once(self):
        insert, failures = self.database.insert_missing, []

        def fail_once(connection, table, rows):
            insert(connection, table, rows)
            if table.name == 'held_events' and failures:
                raise failures.pop()

        for server, failure in ((A, db_exception.DBDeadlock()), (B, db_exception.DBConnectionError())):
            failures.append(failure)
            with mock.patch.object(self.database, 'insert_missing', fail_once):
                self.hold(item(server, '1'), item(server, '2'))
            self.assertEqual([], failures)
        self.assertEqual({A: ['1', '2'], B: ['1', '2']}, self.tags(self.claim()))

    def test_concurrent_holds_of_a_server_do_not_mix(self):
        """The events of one call stay together, and the events of later calls follow."""

        def hold(name):
            for batch in range(10):
                self.hold(*(item(server, f'{name} {batch} {n}') for n in range(3) for server in (B, A)))

        self.at_once(*(lambda name=name: hold(name) for name in 'xyz'))
        for claim in self.claim():
            tags = [held.event.tag.split() for held in claim.events]
            self.assertEqual(90, len(tags))
            for three in (tags[first : first + 3] for first in range(0, 90, 3)):
                self.assertEqual(['0', '1', '2'], [n for _name, _batch, n in three])
                self.assertEqual(1, len({(name, batch) for name, batch, _n in three}))
            for name in 'xyz':
                batches = [int(batch) for one, batch, _n in tags if one == name]
                self.assertEqual(sorted(batches), batches)


class ClaimScenarios(StoreCase):
    def test_events_are_read_while_other_events_are_held(self):
        """The rows of the servers are not locked while the events are read, which can take seconds."""
        self.hold(item(A, '1'))
        read = self.store._events

        def hold_and_read(*args, **kwargs):
            thread = threading.Thread(target=self.hold, args=(item(A, '2'),), daemon=True)
            thread.start()
            thread.join(LOCKED)
            ended.append(not thread.is_alive())
            return read(*args, **kwargs)

        ended = []
        with mock.patch.object(self.store, '_events', hold_and_read):
            claims = self.claim()
        self.assertEqual([True], ended)
        self.assertEqual({A: ['1', '2']}, self.tags(claims))

    def test_each_server_is_claimed_by_one_worker(self):
        servers = [str(uuid.UUID(int=number)) for number in range(1, 101)]
        self.hold(*map(item, servers))
        self._claim_all(servers)

    def test_each_server_is_claimed_by_one_worker_without_skip_locked(self):
        servers = [str(uuid.UUID(int=number)) for number in range(1, 101)]
        self.hold(*map(item, servers))
        with mock.patch('external_events_router.db.session.Database.skips_locked', lambda *_: False):
            self._claim_all(servers)

    def _claim_all(self, servers):
        taken = collections.defaultdict(list)
        together = threading.Barrier(3)

        def work(name):
            together.wait()
            empty = 0
            # NOTE: a claim returns nothing while another worker has locked all servers.
            while empty < 3:
                claims = self.claim(name, limit=7)
                empty = 0 if claims else empty + 1
                taken[name] += [claim.server_uuid for claim in claims]

        self.at_once(*(lambda name=name: work(name) for name in 'xyz'))
        self.assertEqual(servers, sorted(itertools.chain(*taken.values())))

    def test_lease_ends_by_the_clock_of_the_database(self):
        self.hold(item(A))
        self.assertEqual(1, len(self.claim('first', lease=60.0)))
        ahead = time.time() + 600
        with mock.patch('time.time', lambda: ahead):
            self.assertEqual([], self.claim('second'))
        with self.later(61):
            self.assertEqual(1, len(self.claim('second', lease=60.0)))
            self.assertEqual([], self.claim('first'))

    def test_worker_without_a_lease_settles_nothing(self):
        self.hold(item(A, '1'), item(A, '2'))
        (lost,) = self.claim('first', lease=60.0)
        with self.later(61):
            (claim,) = self.claim('second')
        for kwargs in ({}, {'ended': {lost.events[0].seq: (base.State.GONE, 'gone')}}, {'reason': 'x'}):
            self.store.settle('first', [settled(lost, **kwargs)])
        self.assertEqual(['1', '2'], [record.event.tag for record in self.held()])
        self.assertEqual([], self.ended())
        self.assertEqual([], self.claim('third'))
        self.store.settle('second', [settled(claim)])
        self.assertEqual([0, 0, 0], self.rows())

    def test_failed_attempt_is_repeated_later(self):
        self.hold(item(A, hosts=['one', 'two']))
        (claim,) = self.claim()
        (held,) = claim.events
        due = self.store.settle(
            'worker',
            [
                settled(
                    claim,
                    acknowledged={held.seq: frozenset({'one'})},
                    hosts=frozenset({'two', 'three'}),
                    reason='two: silent',
                    retry_after=30.0,
                )
            ],
        )
        self.assertEqual((0, []), (due, self.claim()))
        (record,) = self.held()
        self.assertEqual((('three', 'two'), 1, 'two: silent'), (record.hosts, record.attempts, record.reason))
        with self.later(31):
            (claim,) = self.claim()
        self.assertEqual((1, frozenset({'one'})), (claim.attempts, claim.events[0].acknowledged))
        self.store.settle('worker', [settled(claim, hosts=None, reason='no map', retry_after=1.0)])
        self.assertEqual(('three', 'two'), self.held()[0].hosts)

    def test_event_held_during_an_attempt_is_due_immediately(self):
        self.hold(item(A, '1'))
        (claim,) = self.claim()
        self.hold(item(A, '2'), retry_after=60.0)
        self.assertEqual([], self.claim())
        self.assertEqual(1, self.store.settle('worker', [settled(claim)]))
        self.assertEqual({A: ['2']}, self.tags(self.claim()))

    def test_server_made_due_during_an_attempt_stays_due(self):
        self.hold(item(A), item(B))
        claims = self.claim()
        self.assertEqual(1, self.store.make_due(servers=[A]))
        self.assertEqual([], self.claim())
        failed = [settled(claim, reason='silent', retry_after=60.0) for claim in claims]
        self.assertEqual(1, self.store.settle('worker', failed))
        self.assertEqual([A], [claim.server_uuid for claim in self.claim()])

    def test_make_due_selects_servers_and_hosts(self):
        self.hold(item(A, hosts=['one', 'two']), item(B, hosts=['two']), item(C, hosts=[]), retry_after=60.0)
        self.assertEqual(0, self.store.make_due())
        self.assertEqual(0, self.store.make_due(hosts=['three', 'ONE'], servers=[D]))
        self.assertEqual([], self.claim())
        self.assertEqual(1, self.store.make_due(hosts=['one']))
        self.assertEqual([A], [claim.server_uuid for claim in self.claim()])
        self.assertEqual(2, self.store.make_due(hosts=['three'], servers=[B, C]))
        self.assertEqual([B, C], sorted(claim.server_uuid for claim in self.claim()))

    def test_servers_of_a_host_become_due_one_after_the_other(self):
        servers = [str(uuid.UUID(int=number)) for number in range(1, 31)]
        hosts = ['one', 'two', 'three']
        self.hold(*(item(server, hosts=[hosts[n % 3]]) for n, server in enumerate(servers)), retry_after=60.0)
        self.assertEqual(30, self.store.make_due(hosts=hosts))
        for first in (0, 2, 1):
            claimed = {claim.server_uuid for claim in self.claim(limit=10)}
            self.assertEqual(set(servers[first::3]), claimed)

    def test_servers_that_are_already_due_are_not_written(self):
        self.hold(item(A, hosts=['one']), item(B, hosts=['one']))
        (claim, _claim) = self.claim()
        self.hold(item(C, hosts=['one']))
        with databases.statements(self.database) as sent:
            self.assertEqual(1, self.store.make_due(servers=[C]))
        self.assertEqual([], [statement for statement in sent if not statement.startswith('SELECT')])
        self.assertEqual(3, self.store.make_due(hosts=['one']))
        self.store.settle('worker', [settled(claim, reason='silent', retry_after=60.0)])
        due = {claim.server_uuid for claim in self.claim()}
        self.assertEqual({C, claim.server_uuid}, due)

    def test_damaged_row_affects_no_other_row(self):
        # NOTE: a text column of MariaDB holds 65535 bytes.
        for text in ('{', '{}', 'null', '[' * 60_000, '"x"'):
            with self.database.writing() as connection:
                for model in (models.EndedEvent, models.HeldEvent, models.HeldHost, models.HeldServer):
                    connection.execute(sa.delete(model))
            self.hold(item(A, 'one'), item(A, 'two'), item(B, 'three'))
            with self.database.writing() as connection:
                held = models.HeldEvent.__table__
                first = sa.select(sa.func.min(held.c.seq)).scalar_subquery()
                seq = connection.scalar(sa.select(first))
                connection.execute(sa.update(held).where(held.c.seq == seq).values(event=text))
                connection.execute(sa.update(held).values(context='{', acknowledged='["#", 3, "two"]'))
            claims = self.claim()
            self.assertEqual({'two', 'three'}, {held.event.tag for claim in claims for held in claim.events})
            self.assertEqual({'two'}, claims[0].events[0].acknowledged)
            # Damaged lists of hosts cause no failure of a query that reads other servers.
            with self.database.writing() as connection:
                connection.execute(sa.update(models.HeldServer).values(free_hosts='{'))
            self.store.servers_among([A, B])
            (ended,) = self.ended()
            self.assertEqual((base.State.DAMAGED, A), (ended.state, ended.event.server_uuid))
            self.assertIn('the row cannot be read', ended.reason)

    def test_size_of_a_claim_is_bounded(self):
        self.patch(store, 'MAX_EVENTS', 3)
        self.patch(store, 'MAX_CLAIMED', 5)
        for server, number in ((A, 4), (B, 2), (C, 1)):
            self.hold(*(item(server, str(n)) for n in range(number)))
        claims = self.claim('first')
        self.assertEqual({A: ['0', '1', '2'], B: ['0', '1']}, self.tags(claims))
        self.assertEqual({C: ['0']}, self.tags(self.claim('second')))
        # The remaining events of a server follow immediately.
        self.assertEqual(1, self.store.settle('first', [settled(claim) for claim in claims]))
        self.assertEqual({A: ['3']}, self.tags(self.claim()))

    def test_ended_events_are_purged(self):
        self.hold(item(A, '1'), item(A, '2'), item(A, '3'), item(B, '4'))
        claims = {claim.server_uuid: claim for claim in self.claim()}
        one, two, _three = claims[A].events
        ended = {one.seq: (base.State.EXPIRED, 'late'), two.seq: (base.State.REFUSED, 'no' * 500)}
        gone = {claims[B].events[0].seq: (base.State.GONE, 'no more')}
        self.store.settle(
            'worker', [settled(claims[A], ended=ended, reason='silent'), settled(claims[B], ended=gone)]
        )
        self.assertEqual(['3'], [record.event.tag for record in self.held()])
        # This host is in a settlement that lists no hosts afterwards.
        self.assertEqual([1, 0, 1], self.rows())
        found = [(r.event.tag, r.state, r.hosts, r.attempts, r.request_id) for r in self.ended()]
        self.assertEqual(
            [
                ('1', base.State.EXPIRED, ('one',), 1, 'req-2'),
                ('2', base.State.REFUSED, ('one',), 1, 'req-2'),
                ('4', base.State.GONE, ('one',), 1, 'req-2'),
            ],
            found,
        )
        self.assertEqual(0, self.store.purge(60.0))
        with self.later(61):
            self.assertEqual(3, self.store.purge(60.0))
        self.assertEqual([], self.ended())


class FreeHostScenarios(StoreCase):
    """A host is free exactly while it has acknowledged every held event of a server."""

    def free(self, server=A):
        return set(self.store.servers_among([server])[server])

    def due_in(self, server=A):
        """Seconds until the next attempt."""
        with self.database.reading() as connection:
            query = sa.select(models.HeldServer.next_attempt).where(models.HeldServer.server_uuid == server)
            return connection.scalar(query) - self.database.now(connection)

    def test_host_that_acknowledged_all_events_of_one_call_is_free(self):
        self.hold(
            item(A, acknowledged=['one', 'two']), item(B), item(A, acknowledged=['two']), item(B, hosts=[])
        )
        self.assertEqual(({'two'}, set()), (self.free(A), self.free(B)))

    def test_host_stays_free_while_it_acknowledges_later_events(self):
        self.hold(item(A, acknowledged=['one']))
        self.hold(item(A, acknowledged=['one']), item(A, acknowledged=['one']))
        self.assertEqual({'one'}, self.free())
        self.hold(item(A))
        self.assertEqual(set(), self.free())
        # A host that is not free does not become free because of a later event.
        self.hold(item(A, acknowledged=['one']))
        self.assertEqual(set(), self.free())

    def test_event_that_a_free_host_has_not_acknowledged_makes_the_attempt_earlier(self):
        self.hold(item(A, acknowledged=['one']), item(B), retry_after=60.0)
        self.hold(item(A, acknowledged=['one']), item(B), retry_after=5.0)
        self.assertTrue(self.due_in(A) > 50 and self.due_in(B) > 50)
        self.hold(item(A), retry_after=5.0)
        self.assertLess(self.due_in(A), 6)

    def test_attempts_update_the_free_hosts(self):
        self.hold(item(A, '1', hosts=['one', 'two']), item(A, '2', hosts=['one', 'two']))
        (claim,) = self.claim()
        one, two = (held.seq for held in claim.events)
        failed = {'reason': 'two: silent', 'hosts': frozenset({'two'}), 'retry_after': 60.0}
        got = frozenset({'one'})
        self.store.settle('worker', [settled(claim, acknowledged={one: got}, **failed)])
        self.assertEqual(set(), self.free())
        self.store.make_due(servers=[A])
        (claim,) = self.claim()
        self.store.settle('worker', [settled(claim, acknowledged={two: got}, **failed)])
        self.assertEqual({'one'}, self.free())
        # A delivered event does not count any longer.
        self.hold(item(A, '3', acknowledged=['two']))
        self.assertEqual(set(), self.free())
        self.store.make_due(servers=[A])
        (claim,) = self.claim()
        self.store.settle('worker', [settled(claim, delivered=frozenset({one, two}), **failed)])
        self.assertEqual({'two'}, self.free())

    def test_event_held_during_an_attempt_for_a_responding_host_is_due_immediately(self):
        self.hold(item(A, '1', hosts=['one', 'two']), item(B, '1', hosts=['one']))
        of_a, of_b = sorted(self.claim(), key=lambda claim: claim.server_uuid)
        self.hold(item(A, '2', hosts=['one', 'two']), item(B, '2', hosts=['one']), retry_after=60.0)
        results = {
            'acknowledged': {of_a.events[0].seq: frozenset({'one'})},
            'hosts': frozenset({'two'}),
            'reason': 'two: silent',
            'retry_after': 60.0,
        }
        silent = {'hosts': frozenset({'one'}), 'reason': 'one: silent', 'retry_after': 60.0}
        self.assertEqual(1, self.store.settle('worker', [settled(of_a, **results), settled(of_b, **silent)]))
        self.assertEqual({A: ['1', '2']}, self.tags(self.claim()))
        # The new event adds its hosts to the hosts of the server.
        self.assertEqual(('one', 'two'), self.held(server_uuid=A)[0].hosts)

    def test_event_held_during_an_attempt_for_the_same_silent_host_is_not_due_immediately(self):
        self.hold(item(A, '1', hosts=['two'], acknowledged=['one']))
        (claim,) = self.claim()
        self.hold(item(A, '2', hosts=['two'], acknowledged=['one']), retry_after=60.0)
        failed = {'reason': 'two: silent', 'hosts': frozenset({'two'}), 'retry_after': 60.0}
        self.assertEqual(0, self.store.settle('worker', [settled(claim, **failed)]))
        self.assertGreater(self.due_in(), 50)
        self.assertEqual({'one'}, self.free())

    def test_requeued_events_are_sent_to_all_hosts(self):
        self.hold(item(A))
        (claim,) = self.claim()
        ended = {claim.events[0].seq: (base.State.EXPIRED, 'late')}
        self.store.settle('worker', [settled(claim, ended=ended)])
        self.hold(item(A, acknowledged=['one']), retry_after=60.0)
        self.assertEqual({'one'}, self.free())
        self.inspection.requeue(self.ended(), ttl=lambda event: 77.0)
        self.assertEqual(set(), self.free())
        self.assertLess(self.due_in(), 1)

    def test_rows_of_an_older_release_have_no_free_hosts(self):
        self.hold(item(A, acknowledged=['one']))
        with self.database.writing() as connection:
            connection.execute(sa.update(models.HeldServer).values(free_hosts=None))
        self.assertEqual(set(), self.free())
        self.hold(item(A, acknowledged=['one']))
        self.assertEqual(set(), self.free())

    def test_many_servers_are_settled_with_few_statements(self):
        servers = [str(uuid.UUID(int=number)) for number in range(1, 101)]
        self.hold(*(item(server, tag, hosts=['two']) for server in servers for tag in '12'))
        claims = self.claim()
        settlements = [
            settled(
                claim,
                delivered=frozenset({claim.events[0].seq}),
                acknowledged={claim.events[1].seq: frozenset({'one'})},
                hosts=frozenset({'two', 'three'}),
                reason=f'{claim.server_uuid}: silent',
                retry_after=60.0,
            )
            for claim in claims
        ]
        with databases.statements(self.database) as sent:
            self.store.settle('worker', settlements)
        self.assertLess(len(sent), 12, sent)
        self.assertEqual([100, 200, 100], self.rows())
        self.assertTrue(all({'one'} == self.free(server) for server in servers[:5]))


class RaceScenarios(StoreCase):
    #: Number of hold calls of each thread.
    ROUNDS = 100

    def test_no_event_is_lost_between_hold_and_settle(self):
        """Two workers deliver events that three threads hold for the same servers, while hosts become due."""
        order = [[A, B, C], [C, A], [B, C, A]]
        ends = threading.Event()
        lock, delivered = threading.Lock(), collections.defaultdict(list)

        def hold(name, servers):
            for number in range(self.ROUNDS):
                self.hold(*(item(server, f'{name} {number}') for server in servers))

        def work(name):
            while True:
                last = ends.is_set()
                claims = self.claim(name)
                with lock:
                    for claim in claims:
                        delivered[claim.server_uuid] += [held.event.tag for held in claim.events]
                self.store.settle(name, [settled(claim) for claim in claims])
                # NOTE: a claim skips rows that are locked at that moment.
                if last and not claims and not self.store.servers(1):
                    return

        def wake():
            while not ends.wait(0.01):
                self.store.make_due(hosts=['one'])

        def hold_all():
            with contextlib.ExitStack() as stack:
                stack.callback(ends.set)
                self.at_once(*(lambda n=n, s=s: hold(n, s) for n, s in zip('xyz', order, strict=True)))

        self.at_once(hold_all, wake, wake, lambda: work('first'), lambda: work('second'))
        for server in (A, B, C):
            names = [name for name, servers in zip('xyz', order, strict=True) if server in servers]
            self.assertEqual(self.ROUNDS * len(names), len(delivered[server]))
            for name in names:
                numbers = [int(tag.split()[1]) for tag in delivered[server] if tag.startswith(name)]
                self.assertEqual(list(range(self.ROUNDS)), numbers)
        self.assertEqual([0, 0, 0], self.rows())


class InspectionScenarios(StoreCase):
    def setUp(self):
        super().setUp()
        self.patch(inspection, 'PAGE', 2)
        self.hold(
            *(item(A, str(n), hosts=['one']) for n in range(3)),
            *(item(B, str(n), hosts=['two']) for n in range(3)),
            item(C, hosts=['three', '"a']),
            retry_after=60.0,
        )

    def end(self, server, state=base.State.EXPIRED):
        self.store.make_due(servers=[server])
        (claim,) = self.claim()
        ended = {held.seq: (state, 'why') for held in claim.events}
        self.store.settle('worker', [settled(claim, ended=ended)])

    def chosen(self, **kwargs):
        records = self.inspection.records(inspection.Selection(**kwargs))
        return [(record.event.server_uuid, record.event.tag, str(record.state)) for record in records]

    def test_filters(self):
        self.end(B)
        of_a = [(A, str(n), 'held') for n in range(3)]
        of_b = [(B, str(n), 'expired') for n in range(3)]
        of_c = [(C, None, 'held')]
        self.assertEqual([*of_a, *of_c, *of_b], self.chosen())
        self.assertEqual([*of_a, *of_c], self.chosen(state=base.State.HELD))
        self.assertEqual(of_b, self.chosen(state=base.State.EXPIRED))
        self.assertEqual([], self.chosen(state=base.State.GONE))
        self.assertEqual(of_a, self.chosen(server_uuid=A))
        self.assertEqual(of_a, self.chosen(host='one'))
        self.assertEqual(of_b, self.chosen(host='two'))
        self.assertEqual([], self.chosen(host='two', server_uuid=A))
        some = [record.event.id for record in self.inspection.records()][2::3]
        self.assertEqual([of_a[2], of_b[1]], self.chosen(event_ids=frozenset(some)))

    def test_host_filter_matches_the_whole_name(self):
        self.end(C)
        for host, number in (
            ('"a', 1),
            ('a', 0),
            ('"A', 0),
            ('THREE', 0),
            ('thre_', 0),
            ('%', 0),
            ('three', 1),
        ):
            self.assertEqual(number, len(self.chosen(host=host)), host)

    def test_limit_bounds_the_rows_that_are_read(self):
        with databases.statements(self.database) as sent:
            next(self.inspection.records())
        # One page of events, and the hosts of these events.
        self.assertEqual(2, len(sent), sent)

    def test_dropped_events_end(self):
        self.end(B)
        self.assertEqual(1, self.drop(server_uuid=B, event_ids=self.ids(B)[:1]))
        self.assertEqual(2, self.drop(state=base.State.EXPIRED))
        self.assertEqual(1, self.drop(event_ids=self.ids(A)[:1]))
        self.assertEqual([2, 3, 3], self.rows())
        self.assertEqual(2, self.drop(host='one'))
        self.assertEqual([(C, None, 'held')], self.chosen())
        self.assertEqual([1, 2, 1], self.rows())

    def test_drop_returns_the_hosts_that_may_have_received_the_event(self):
        self.end(B)
        nobody = self.inspection.drop(inspection.Selection(state=base.State.EXPIRED))
        self.assertEqual((frozenset(), None), (nobody.hosts, nobody.until))
        waiting = list(self.inspection.records(inspection.Selection(server_uuid=A)))
        dropped = self.inspection.drop(inspection.Selection(server_uuid=A), grace=2.0)
        self.assertEqual(frozenset(waiting[0].hosts), dropped.hosts)
        self.assertEqual(max(record.expires_at for record in waiting) + 2.0, dropped.until)

    def drop(self, **kwargs):
        return self.inspection.drop(inspection.Selection(**kwargs)).events

    def ids(self, server):
        records = self.inspection.records(inspection.Selection(server_uuid=server))
        return [record.event.id for record in records]

    def test_event_is_dropped_during_an_attempt(self):
        self.store.make_due(servers=[A, B])
        claims = self.claim()
        self.assertEqual(3, self.drop(server_uuid=A))
        self.assertEqual(1, self.drop(event_ids=frozenset(self.ids(B)[1:2])))
        self.store.settle('worker', [settled(claim, reason='silent', retry_after=9.0) for claim in claims])
        self.assertEqual([(B, '0', 'held'), (B, '2', 'held'), (C, None, 'held')], self.chosen())
        self.assertEqual(frozenset({B, C}), self.store.servers(9))

    def test_retried_event_is_held_again(self):
        self.end(B)
        again = self.ended()
        self.hold(item(B, 'new', hosts=['two']), retry_after=60.0)
        self.assertEqual(3, self.inspection.requeue(again, ttl=lambda event: 77.0))
        self.assertEqual(0, self.inspection.requeue(again, ttl=lambda event: 77.0))
        self.assertEqual(['new', '0', '1', '2'], [tag for _server, tag, _state in self.chosen(server_uuid=B)])
        self.assertEqual([], self.chosen(state=base.State.EXPIRED))
        self.assertEqual(1, self.inspection.make_due(inspection.Selection(event_ids=frozenset(self.ids(B)))))
        (claim,) = self.claim()
        for held in claim.events[1:]:
            # Some time may have passed on a loaded machine.
            self.assertTrue(60.0 < held.remaining <= 77.5, held.remaining)
        self.assertEqual(('two',), self.held(server_uuid=B)[0].hosts)

    def test_retry_of_an_event_that_was_held_again_changes_nothing(self):
        event = self.held(server_uuid=C)[0].event
        self.end(C)
        self.hold(item(C, event=event))
        self.assertEqual(1, self.inspection.requeue(self.ended(), ttl=lambda event: 77.0))
        self.assertEqual([(C, None, 'held')], self.chosen(server_uuid=C))

    def test_retry_skips_rows_that_cannot_be_read(self):
        self.end(B)
        with self.database.writing() as connection:
            ended = models.EndedEvent.__table__
            seqs = connection.scalars(sa.select(ended.c.seq).order_by(ended.c.seq)).all()
            connection.execute(sa.update(ended).where(ended.c.seq == seqs[1]).values(event='{'))
            connection.execute(sa.update(ended).where(ended.c.seq == seqs[2]).values(hosts='{'))
        self.assertEqual(2, self.inspection.requeue(self.ended(), ttl=lambda event: 77.0))
        self.assertEqual([(B, '0', 'held'), (B, '2', 'held')], self.chosen(server_uuid=B)[:2])
        (left,) = self.ended()
        self.assertEqual((seqs[1], 'unreadable', ('two',)), (left.seq, left.event.name, left.hosts))

    def test_hosts_that_have_acknowledged_are_listed(self):
        self.hold(item(D, 'both', hosts=['two'], acknowledged=['three', 'one']))
        (record,) = self.held(server_uuid=D)
        self.assertEqual((('one', 'three'), ('two',)), (record.acknowledged, record.hosts))
        self.assertEqual({()}, {record.acknowledged for record in self.held(server_uuid=A)})

    def test_make_due_selected_servers_become_due(self):
        self.assertEqual(1, self.inspection.make_due(inspection.Selection(host='two')))
        self.assertEqual([B], [claim.server_uuid for claim in self.claim()])
        self.assertEqual(1, self.inspection.make_due(inspection.Selection(server_uuid=A)))
        self.assertEqual([A], [claim.server_uuid for claim in self.claim()])
        self.assertEqual(3, self.inspection.make_due())
        self.assertEqual([C], [claim.server_uuid for claim in self.claim()])

    def test_require_found_reports_unknown_ids(self):
        known = self.ids(A)
        inspection.require_found(self.inspection.records(), known)
        unknown = self.assertRaises(
            exceptions.NoSuchEvent, inspection.require_found, self.inspection.records(), [*known, 'nonsense']
        )
        self.assertIn('nonsense', str(unknown))
