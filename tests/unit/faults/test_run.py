"""Rows of the fault runs, and what meets by chance."""

import random

from tests import base
from tests.faults import catalogue
from tests.faults import ledger
from tests.faults import on_broker  # noqa: F401 - registers its faults, as the others do
from tests.faults import on_database  # noqa: F401
from tests.faults import on_network  # noqa: F401
from tests.faults import on_processes  # noqa: F401
from tests.faults import run
from tests.faults import site
from tests.faults import table


def fault(name, touches):
    return catalogue.Fault(name, name, frozenset(touches.split()), print, False, catalogue.DATABASES)


def told(tag, sent, took=0.1, code=200):
    return ledger.Told(tag, 'server', 1, code, sent, sent + took, took)


class TestRow(base.TestCase):
    def row(self, **audit):
        row = run.Row('a', 'A', began=1.0, ended=2.0, normal=0.5, held=0)
        row.judge([told('in', 1.5, took=0.3), told('out', 2.5, took=9.0)], ledger.Audit(**audit))
        return row

    def test_own_events_only(self):
        row = self.row(lost=['out'])
        self.assertEqual((1, 0.3, False), (row.codes['200'], row.longest, row.failed))

    def test_every_broken_promise_fails_it(self):
        for what in ('lost', 'doubled', 'disordered', 'overdue'):
            self.assertTrue(self.row(**{what: ['in']}).failed, what)
        for what in ('late', 'expired', 'unpromised'):
            self.assertFalse(self.row(**{what: ['in']}).failed, what)

    def test_what_does_not_come_back_fails_it(self):
        for name, value in (('normal', None), ('held', 1), ('trouble', 'Traceback')):
            row = self.row()
            setattr(row, name, value)
            self.assertTrue(row.failed, name)

    def test_in_the_table(self):
        text = table.as_text([self.row(lost=['in', 'out'])])
        heading, line = text.splitlines()
        self.assertEqual(table.COLUMNS[0], heading.split()[0])
        self.assertEqual('1 x 200', ' '.join(line.split()[2:5]))
        self.assertEqual(['a: lost: in'], list(table.details(self.row(lost=['in', 'out']))))


class TestDraw(base.TestCase):
    def test_two_at_once_touch_different_things(self):
        faults = [fault('a', 'broker'), fault('b', 'broker database'), fault('c', 'api')]
        rnd = random.Random(1)
        drawn = {tuple(each.name for each in run.draw(faults, rnd)) for _ in range(200)}
        self.assertEqual(
            {('a',), ('b',), ('c',), ('a', 'c'), ('b', 'c'), ('c', 'a'), ('c', 'b')},
            drawn,
        )


class TestCatalogue(base.TestCase):
    def test_pairs_are_of_faults_that_touch_different_things(self):
        pairs = run.pairs(catalogue.FAULTS)
        self.assertEqual(len(catalogue.PAIRS), len(pairs))
        for first, second in pairs:
            self.assertFalse(first.touches & second.touches, (first.name, second.name))

    def test_of_each_database_there_is_something(self):
        for database in catalogue.DATABASES:
            self.assertTrue([each for each in catalogue.FAULTS.values() if database in each.databases])


class TestOption(base.TestCase):
    def test_group_option_value(self):
        self.assertEqual(('api__resolver', 'local'), site.option('api.resolver=local'))
        self.assertEqual(
            ('delivery__event_ttls', 'network-changed:60'),
            site.option('delivery.event_ttls=network-changed:60'),
        )

    def test_nonsense(self):
        for text in ('api.resolver', 'resolver=local', ''):
            self.assertRaises(ValueError, site.option, text)
