import logging

from external_events_router.resolver import trouble
from tests import base
from tests.unit.agent import helpers


class TroubleTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.trouble = trouble.Trouble(logging.getLogger(__name__), every=30.0, clock=self.clock)

    def lines(self):
        return [line.split(f'{__name__}: ')[1] for line in self.logs.output.splitlines()]

    def test_once_then_every_so_often_then_that_it_is_over(self):
        self.trouble.over('well')
        for _ in range(5):
            self.trouble.occurred(logging.WARNING, 'bad: %s', 'why')
        self.clock.now += 30
        for _ in range(3):
            self.trouble.occurred(logging.WARNING, 'bad: %s', 'still')
        for _ in range(2):
            self.trouble.over('well')
        self.assertEqual(
            [
                'bad: why',
                'bad: still (and 4 times since this was last said)',
                'well (it had failed 2 times more than was said)',
            ],
            self.lines(),
        )

    def test_what_comes_and_goes_is_not_said_each_time(self):
        for _ in range(5):
            self.trouble.occurred(logging.WARNING, 'bad')
            self.trouble.over('well')
        self.assertEqual(1, self.lines().count('bad'))
