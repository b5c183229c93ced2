import hypothesis
from hypothesis import strategies

from external_events_router.concurrency import bounded_store
from tests import base
from tests.unit.agent import helpers


class BoundedStoreTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.time = helpers.Time()
        self.store = bounded_store.BoundedStore(3, seconds=10.0, clock=self.time)

    def test_entry_expires(self):
        self.store.add('a', 1)
        self.store.add('b', 2, seconds=20.0)
        self.time.now += 9.9
        self.assertEqual(1, self.store.get('a'))
        self.time.now += 0.2
        self.assertIsNone(self.store.get('a'))
        self.assertEqual((2, 1), (self.store.get('b'), len(self.store)))

    def test_expired_entries_are_removed_from_the_front(self):
        self.store.add('a', 1, seconds=1.0)
        self.store.add('b', 2, seconds=5.0)
        self.store.add('c', 3, seconds=1.0)
        self.time.now += 2
        self.store.expire()
        self.assertEqual(['b', 'c'], list(self.store.keys()))
        self.time.now += 4
        self.store.expire()
        self.assertEqual(0, len(self.store))
        self.store.expire()

    def test_first_entries_are_removed(self):
        for number, key in enumerate('abcd'):
            self.store.add(key, number)
        self.assertEqual(['b', 'c', 'd'], list(self.store.keys()))
        self.store.get('b')
        self.store.get('c', use=True)
        self.store.add('b', 5)
        self.assertEqual(['d', 'c', 'b'], list(self.store.keys()))

    def test_added_again_entry_has_a_new_time(self):
        self.store.add('a', 1)
        self.time.now += 9
        self.store.add('a', 2)
        self.time.now += 9
        self.assertEqual(2, self.store.get('a'))

    def test_replaced_value_keeps_its_time_and_position(self):
        self.store.add('a', 1)
        self.store.add('b', 1)
        self.time.now += 9
        self.store.replace('a', 2)
        self.assertEqual(['a', 'b'], list(self.store.keys()))
        self.assertEqual(2, self.store.get('a'))
        self.time.now += 2
        self.assertIsNone(self.store.get('a'))
        self.assertRaises(KeyError, self.store.replace, 'a', 3)

    def test_entries_without_a_time_do_not_expire(self):
        store = bounded_store.BoundedStore(3, clock=self.time)
        store.add('a', 1)
        store.add('b', 2, seconds=1.0)
        store.add('b', 2)
        self.time.now += 1e9
        store.expire()
        self.assertEqual([1, 2], [store.get('a'), store.get('b')])

    @hypothesis.given(
        strategies.lists(strategies.tuples(strategies.sampled_from('abcdef'), strategies.integers(0, 12)))
    )
    def test_limits_hold_after_any_calls(self, steps):
        for key, seconds in steps:
            if self.store.get(key) is None:
                self.store.add(key, 1, seconds=seconds or None)
            elif seconds > 9:
                self.store.remove(key)
            self.time.now += 1
            self.assertLessEqual(len(self.store), 3)
            self.assertLessEqual(set(self.store._expires), set(self.store.keys()))
