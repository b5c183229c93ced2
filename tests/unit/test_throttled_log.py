import logging

from external_events_router import throttled_log
from tests import base
from tests.unit.agent import helpers


class ThrottledLogTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.log = throttled_log.ThrottledLog(logging.getLogger(__name__), every=30.0, clock=self.clock)

    def lines(self):
        return [line.split(f'{__name__}: ')[1] for line in self.logs.output.splitlines()]

    def test_first_failure_then_reminders_then_the_end_are_logged(self):
        self.log.over('well')
        for _ in range(5):
            self.log.occurred(logging.WARNING, 'bad: %s', 'why')
        self.clock.now += 30
        for _ in range(3):
            self.log.occurred(logging.WARNING, 'bad: %s', 'still')
        for _ in range(2):
            self.log.over('well')
        self.assertEqual(
            [
                'bad: why',
                'bad: still (and 4 times since the last message)',
                'well (2 failures were not logged)',
            ],
            self.lines(),
        )

    def test_repeated_short_failures_are_not_logged_each_time(self):
        for _ in range(5):
            self.log.occurred(logging.WARNING, 'bad')
            self.log.over('well')
        self.assertEqual(1, self.lines().count('bad'))
        self.assertEqual(2, len(self.lines()))


class SummaryTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.summary = throttled_log.Summary(
            logging.getLogger(__name__),
            logging.WARNING,
            one='%s is gone',
            many='%d are gone, for example %s',
            every=30.0,
            clock=self.clock,
        )

    def lines(self):
        return [line.split(f'{__name__}: ')[1] for line in self.logs.output.splitlines()]

    def test_one_summary_for_all_and_the_next_after_the_interval(self):
        self.summary.flush()
        self.summary.add(['a'])
        self.summary.flush()
        self.summary.add(['b', 'a'])
        self.summary.add([])
        self.clock.now += throttled_log.GATHER
        self.summary.flush()
        self.assertEqual(['2 are gone, for example a, b'], self.lines())
        self.summary.add(['c'])
        self.clock.now += 29.9
        self.summary.flush()
        self.assertEqual(1, len(self.lines()))
        self.clock.now += 0.1
        self.summary.flush()
        self.assertEqual('c is gone', self.lines()[1])
        self.summary.flush(now=True)
        self.assertEqual(2, len(self.lines()))

    def test_summary_has_few_examples(self):
        self.summary.add([str(number) for number in range(100)])
        self.summary.flush(now=True)
        self.assertEqual(['100 are gone, for example 0, 1, 2'], self.lines())


class BoundedTest(base.TestCase):
    def test_limited_number_in_a_period_and_the_number_of_the_others(self):
        clock = helpers.Time()
        log = logging.getLogger(__name__)
        bounded = throttled_log.Bounded(log, lines=2, period=60.0, rest='%d more', clock=clock)
        for number in range(5):
            bounded.write(logging.WARNING, 'event %d', number)
        clock.now += 60
        bounded.flush()
        bounded.flush()
        bounded.write(logging.INFO, 'event %d', 5)
        self.assertEqual(
            ['event 0', 'event 1', '3 more', 'event 5'],
            [line.split(f'{__name__}: ')[1] for line in self.logs.output.splitlines()],
        )
        for number in range(5):
            bounded.write(logging.WARNING, 'event %d', number)
        bounded.flush(now=True)
        self.assertEqual(1, self.logs.output.count('4 more'))


class TotalsTest(base.TestCase):
    def test_one_total_per_interval(self):
        clock = helpers.Time()
        totals = throttled_log.Totals(
            logging.getLogger(__name__), logging.INFO, '%d done', every=30.0, clock=clock
        )
        for number in (0, 1, 2):
            totals.add(number)
            totals.flush()
        totals.add(3)
        clock.now += 30
        totals.flush()
        totals.add(4)
        totals.flush(now=True)
        self.assertEqual(
            ['1 done', '5 done', '4 done'],
            [line.split(f'{__name__}: ')[1] for line in self.logs.output.splitlines()],
        )
