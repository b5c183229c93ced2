"""Behaviour of the SQL host map on every database; mixed into a test case.

The test case sets ``self.url`` to the URL of an empty database.
"""

import json
import threading
import uuid

from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import base
from external_events_router.resolver.host_map import sql
from tests.unit.db import databases

A, B, C, D = (str(uuid.UUID(int=number)) for number in range(1, 5))


def line(server, *hosts):
    return json.dumps({'server': server, 'hosts': hosts}).encode() + b'\n'


class HostMapScenarios:
    def setUp(self):
        super().setUp()
        self.database = databases.database(self.url)
        databases.create_schema(self.database)
        self.map = sql.SqlHostMap(self.database)
        self.addCleanup(self.map.close)

    def located(self):
        return {entry.server_uuid: entry.hosts for entry in self.map.export()}

    def test_hosts_of(self):
        self.map.import_lines([line(A), line(B, 'one'), line(C, 'two', 'one')])
        found = self.map.hosts_of([A, B, C, D])
        self.assertEqual({A: (), B: ('one',), C: ('one', 'two')}, found)
        self.assertEqual({}, self.map.hosts_of([]))

    def test_hosts_of_is_one_query_for_any_number_of_servers(self):
        self.map.assign(B, 'one')
        many = [str(uuid.UUID(int=number)) for number in range(1, 70_001)]
        for servers in ([B], many):
            with databases.statements(self.database) as sent:
                self.assertEqual({B: ('one',)}, self.map.hosts_of(servers))
            self.assertEqual(1, len(sent), sent)

    def test_look_up(self):
        self.map.import_lines([line(A), line(B, 'one'), line(C, 'two', 'one')])
        held = store.HoldStore(self.database)
        for server, having in ((A, ()), (C, ('two', 'one')), (D, ())):
            event = events.Event('network-changed', server)
            item = hold_base.Item(event, ttl=300, acknowledged=frozenset(having))
            held.hold([item], {}, retry_after=1)
        with databases.statements(self.database) as sent:
            found = self.map.look_up([A, B, C, D], timeout=1.0)
        self.assertEqual({A: (), B: ('one',), C: ('one', 'two')}, found.hosts)
        self.assertEqual({A: frozenset(), C: frozenset({'one', 'two'})}, found.held_servers)
        self.assertEqual(1, len(sent), sent)
        self.assertEqual(base.Lookup({}, held_servers={}), self.map.look_up([], timeout=1.0))

    def test_show(self):
        self.map.import_lines([line(A)])
        self.assertEqual((), self.map.show(A.upper()))
        self.assertRaises(exceptions.NoSuchServer, self.map.show, B)

    def test_assign(self):
        self.map.assign(A, 'one')
        self.map.assign(A.replace('-', ''), 'two')
        self.map.assign(A, 'one')
        self.assertEqual({A: ('one', 'two')}, self.located())

    def test_names_that_differ_in_case_are_two_hosts(self):
        self.map.assign(A, 'Host')
        self.map.assign(A, 'host')
        self.map.assign(B, 'host')
        self.assertEqual(('Host', 'host'), self.map.show(A))
        self.map.report('host', [])
        self.assertEqual({A: ('Host',), B: ()}, self.located())

    def test_unassign(self):
        self.map.assign(A, 'one')
        self.map.unassign(A, 'two')
        self.assertEqual({A: ('one',)}, self.located())
        self.map.unassign(A, 'one')
        self.assertEqual({A: ()}, self.located())
        self.assertRaises(exceptions.NoSuchServer, self.map.unassign, B, 'one')

    def test_forget(self):
        self.map.assign(A, 'one')
        self.map.forget(A)
        self.assertEqual({}, self.located())
        self.assertRaises(exceptions.NoSuchServer, self.map.forget, A)
        self.map.assign(A, 'two')
        self.assertEqual({A: ('two',)}, self.located())

    def test_report(self):
        self.map.import_lines([line(A, 'one'), line(B, 'one', 'two'), line(C, 'two')])
        change = self.map.report('one', [A, C, D])
        self.assertEqual(base.Change(gained=frozenset({C, D}), lost=frozenset({B})), change)
        self.assertEqual({A: ('one',), B: ('two',), C: ('one', 'two'), D: ('one',)}, self.located())

    def test_report_without_a_change_is_one_query(self):
        self.map.report('one', [A, B])
        with databases.statements(self.database) as sent:
            self.assertEqual(base.Change(), self.map.report('one', [B, A]))
        self.assertEqual(1, len(sent), sent)

    def test_report_writes_only_the_changes(self):
        self.map.report('one', [str(uuid.UUID(int=number)) for number in range(3_000)])
        with databases.statements(self.database) as sent:
            self.map.report('one', [str(uuid.UUID(int=number)) for number in range(1, 3_001)])
        # Two reads, one delete, and one insert into each table.
        self.assertEqual(5, len(sent), sent)

    def test_invalid_servers_and_hosts_are_refused(self):
        for call in (
            lambda: self.map.assign('nonsense', 'one'),
            lambda: self.map.assign(A, 'a host'),
            lambda: self.map.assign(A, ''),
            lambda: self.map.unassign(A, 'x' * 256),
            lambda: self.map.report('h\N{LATIN SMALL LETTER O WITH DIAERESIS}st', [A]),
            lambda: self.map.report('one', [A, '']),
            lambda: self.map.forget('0x' + A[2:]),
        ):
            self.assertRaises(exceptions.MalformedMessage, call)
        self.assertEqual({}, self.located())
        for bad in ('#', '*', 'a/b', 'a\n', 'x' * 248):
            self.assertRaises(exceptions.MalformedMessage, self.map.assign, A, bad)
            self.assertRaises(exceptions.MalformedMessage, self.map.report, bad, [A])
        self.map.assign(A, 'x' * 247)

    def test_parallel_changes(self):
        """Hosts report while servers are assigned and forgotten; no call fails, and the map is correct."""
        servers = [str(uuid.UUID(int=number)) for number in range(40)]

        def report(host, ordered):
            for _ in range(5):
                self.map.report(host, ordered)
                self.map.report(host, [])
            self.map.report(host, ordered)

        def churn():
            for server in servers:
                self.map.assign(server, 'three')
                self.map.forget(server)

        errors = self._at_once(lambda: report('one', servers), lambda: report('two', servers[::-1]), churn)
        self.assertEqual([], errors)
        self.map.report('one', servers)
        self.map.report('two', servers)
        self.assertEqual(dict.fromkeys(servers, ('one', 'two')), self.located())

    def _at_once(self, *calls):
        errors = []

        def run(call):
            try:
                call()
            except exceptions.NoSuchServer:
                # Another thread has forgotten the server before.
                pass
            except Exception as exc:
                errors.append(exc)

        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors

    def test_import_replaces_the_listed_servers(self):
        self.map.import_lines([line(A, 'one'), line(B, 'one'), line(C, 'two')])
        results = []
        imported = self.map.import_lines(
            [line(B, 'three', 'four'), b'\n', line(C, 'two'), line(D)],
            progress=lambda *step: results.append(step),
        )
        self.assertEqual(sql.Imported(added=1, changed=1, unchanged=1), imported)
        self.assertEqual({A: ('one',), B: ('four', 'three'), C: ('two',), D: ()}, self.located())
        self.assertEqual([('reading', 4, None), ('writing', 3, 3)], results)

    def test_invalid_line_changes_nothing(self):
        self.map.assign(A, 'one')
        bad = self.assertRaises(
            exceptions.BadLine, self.map.import_lines, [line(A, 'two'), line(B), b'{"server": 7}']
        )
        self.assertTrue(str(bad).startswith('line 3: '), bad)
        self.assertEqual({A: ('one',)}, self.located())

    def test_export_of_more_than_one_page(self):
        expected = {str(uuid.UUID(int=number)): ('one', 'two')[: number % 3] for number in range(1, 2_502)}
        ordered = [line(server, *hosts) for server, hosts in expected.items()]
        imported = self.map.import_lines(reversed(ordered))
        self.assertEqual(sql.Imported(added=2_501, changed=0, unchanged=0), imported)
        self.assertEqual(expected, self.located())
        self.assertEqual(list(expected), list(self.located()))
