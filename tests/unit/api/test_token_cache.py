"""The content of the token cache, and the lifetime of its entries."""

from __future__ import annotations

from concurrent import futures

from external_events_router.api import token_cache
from tests import base


class TokenCacheTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.now = 100.0
        self.cache = token_cache.TokenCache(3, clock=lambda: self.now)

    def test_entry_expires(self) -> None:
        self.cache.set('a', b'1', time=10)
        self.now += 9.9
        self.assertEqual(b'1', self.cache.get('a'))
        self.now += 0.1
        self.assertIsNone(self.cache.get('a'))
        self.assertEqual(0, len(self.cache))

    def test_zero_is_no_expiry_and_negative_is_not_stored(self) -> None:
        self.cache.set('for ever', b'1', time=0)
        self.cache.set('never', b'1', time=-1)
        self.assertEqual(1, len(self.cache))
        self.now += 1e9
        self.assertEqual(b'1', self.cache.get('for ever'))

    def test_recently_used_entries_are_kept(self) -> None:
        for key in 'abc':
            self.cache.set(key, key.encode(), time=10)
        self.cache.get('a')
        self.cache.set('b', b'new', time=10)
        self.cache.set('d', b'd', time=10)
        self.assertEqual([b'a', b'new', None, b'd'], [self.cache.get(key) for key in 'abcd'])

    def test_many_threads(self) -> None:
        def work(number: int) -> int:
            for i in range(500):
                key = str((number * 7 + i) % 11)
                self.cache.set(key, key.encode(), time=10)
                if self.cache.get(key) not in (None, key.encode()):
                    return 1
            return len(self.cache) > 3

        with futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual([0] * 8, list(pool.map(work, range(8))))
        self.assertEqual(3, len(self.cache))
