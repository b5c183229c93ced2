"""The rows of the fault runs, and the faults that are combined at random."""

import random

from tests import base
from tests.faults import catalogue
from tests.faults import ledger
from tests.faults import on_broker  # noqa: F401 - the import registers the faults of each module
from tests.faults import on_cluster  # noqa: F401
from tests.faults import on_database  # noqa: F401
from tests.faults import on_migration  # noqa: F401
from tests.faults import on_network  # noqa: F401
from tests.faults import on_processes  # noqa: F401
from tests.faults import run
from tests.faults import site
from tests.faults import table


def fault(name, affects):
    return catalogue.Fault(name, name, frozenset(affects.split()), print, in_short=False)


NO_ACK = 'host-1: no acknowledgement in 2.0 s; not held: the database did not answer'


def answered(tag, sent, took=0.1, code=200):
    return ledger.Answered(tag, 'server', 1, code, sent, sent + took, took)


class TestRow(base.TestCase):
    def row(self, **audit):
        row = run.Row('a', 'A', began=1.0, ended=2.0, normal=0.5, held=0)
        row.judge(
            [answered('in', 1.5, took=0.3), answered('out', 2.5, took=9.0)], ledger.Audit(**audit), dict
        )
        return row

    def refused(self, **attributes):
        row = run.Row('a', 'A', began=1.0, ended=2.0, normal=0.5, held=0, **attributes)
        events = [answered('in', 1.5), answered('no', 1.6, code=503), answered('gone', 1.7, code=503)]
        row.judge(events, ledger.Audit(), lambda: {'no': NO_ACK})
        return row

    def test_row_contains_only_its_own_events(self):
        row = self.row(lost=['out'])
        self.assertEqual((1, 0.3, False), (row.codes['200'], row.longest, row.failed))

    def test_every_lost_late_or_doubled_event_fails_the_row(self):
        for what in ('lost', 'doubled', 'disordered', 'overdue'):
            self.assertTrue(self.row(**{what: ['in']}).failed, what)
        for what in ('late', 'expired', 'handled_without_200'):
            self.assertFalse(self.row(**{what: ['in']}).failed, what)

    def test_missing_recovery_fails_the_row(self):
        for name, value in (
            ('normal', None),
            ('held', 1),
            ('problem', 'Traceback'),
            ('problems', ['slow']),
        ):
            row = self.row()
            setattr(row, name, value)
            self.assertTrue(row.failed, name)

    def test_answer_503_while_the_database_is_available_fails_the_row(self):
        row = self.refused()
        self.assertEqual((2, True), (row.refused, row.failed))
        row = self.refused(may_refuse=True)
        self.assertEqual((2, False), (row.refused, row.failed))

    def test_503_in_the_table(self):
        column = table.COLUMNS.index('503')
        self.assertEqual('2', table.cells(self.refused())[column])
        self.assertEqual('(2)', table.cells(self.refused(may_refuse=True))[column])
        self.assertEqual('0', table.cells(self.row())[column])

    def test_reasons_that_differ_only_in_numbers_are_one_reason(self):
        self.assertEqual(
            {
                'a: 1 x 503: host-N: no acknowledgement in N s; not held: the database did not answer',
                'a: 1 x 503: no reason in the log',
            },
            set(table.details(self.refused())),
        )

    def test_columns_of_the_table(self):
        text = table.as_text([self.row(lost=['in', 'out'])])
        heading, line = text.splitlines()
        self.assertEqual(table.COLUMNS[0], heading.split()[0])
        self.assertEqual('1 x 200', ' '.join(line.split()[2:5]))
        self.assertEqual(['a: lost: in'], list(table.details(self.row(lost=['in', 'out']))))


class TestDraw(base.TestCase):
    def test_two_faults_at_the_same_time_touch_different_parts(self):
        faults = [fault('a', 'broker'), fault('b', 'broker database'), fault('c', 'api')]
        rnd = random.Random(1)
        drawn = {tuple(each.name for each in run.draw(faults, rnd)) for _ in range(200)}
        self.assertEqual(
            {('a',), ('b',), ('c',), ('a', 'c'), ('b', 'c'), ('c', 'a'), ('c', 'b')},
            drawn,
        )


class TestCatalogue(base.TestCase):
    def test_pairs_consist_of_faults_that_touch_different_parts(self):
        pairs = run.pairs(catalogue.FAULTS)
        self.assertEqual(len(catalogue.PAIRS), len(pairs))
        for first, second in pairs:
            self.assertFalse(first.affects & second.affects, (first.name, second.name))

    def test_each_database_has_a_fault(self):
        for database in catalogue.DATABASES:
            self.assertTrue([each for each in catalogue.FAULTS.values() if database in each.databases])

    def test_broker_has_only_the_faults_of_its_kind_and_common_faults(self):
        for pair in run.pairs(catalogue.FAULTS):
            self.assertEqual(1, len({each.broker for each in pair}))


class TestSize(base.TestCase):
    def test_each_agent_process_has_hosts(self):
        for number in (3, 4, 10, 20, 101):
            agents = site.Size(hosts=number).agents()
            self.assertEqual(
                site.Size(hosts=number).host_names(), [host for hosts in agents.values() for host in hosts]
            )
            self.assertTrue(all(agents.values()), number)


class TestOption(base.TestCase):
    def test_group_option_value(self):
        self.assertEqual(('api__resolver', 'local'), site.option('api.resolver=local'))
        self.assertEqual(
            ('delivery__event_ttls', 'network-changed:60'),
            site.option('delivery.event_ttls=network-changed:60'),
        )

    def test_invalid_options(self):
        for text in ('api.resolver', 'resolver=local', ''):
            self.assertRaises(ValueError, site.option, text)
