"""Order per server, nothing lost, nothing twice: whatever hosts, workers, the map and the database do.

NOTE: the steps are drawn by a seed and not one by one by hypothesis, whose state
machines seldom came to hold anything: 4 times in 60 runs of 40 steps.
"""

import hypothesis
from hypothesis import strategies

from tests import base
from tests.unit.resolver.hold import world

RUNS = hypothesis.settings(
    max_examples=40,
    deadline=None,
    database=None,
    # A seed does not shrink.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


class OrderTest(base.TestCase):
    # Some seconds of nothing but computing, on a machine that has other work too.
    TIMEOUT_SCALING_FACTOR = 4

    def setUp(self):
        super().setUp()
        self.database = self.useFixture(world.Memory()).database

    @RUNS
    @hypothesis.given(seed=strategies.integers(0, 2**64))
    def test_whatever_happens(self, seed):
        world.World(self.database, seed).run()

    @RUNS
    @hypothesis.given(seed=strategies.integers(0, 2**64))
    def test_one_server_on_two_hosts(self, seed):
        world.OneServer(self.database, seed).run()
