import threading

import fixtures

from external_events_router import rejected
from tests import base


class RejectionsTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.now = 1000.0
        self.useFixture(fixtures.MonkeyPatch('time.monotonic', lambda: self.now))
        self.rejections = rejected.Rejections()

    def test_one_message_per_kind_and_then_the_number_of_others(self):
        for number in range(100):
            self.rejections.note('event', 'it is dropped', number)
        self.assertEqual(1, self.logs.output.count('Invalid event'))
        self.assertEqual({'event': 100}, self.rejections.counts())
        self.now += rejected.EVERY
        self.rejections.note('event', 'it is dropped', 'last')
        self.assertIn("Invalid event: it is dropped: 'last' (99 more of this kind", self.logs.output)

    def test_messages_are_short_and_have_no_traceback(self):
        try:
            raise ValueError
        except ValueError:
            self.rejections.note('event', 'it is dropped', {'x': 'y' * 20_000_000})
        self.assertLess(len(self.logs.output), 500)
        self.assertNotIn('Traceback', self.logs.output)

    def test_one_message_per_source_for_a_limited_number_of_sources(self):
        for number in range(3 * rejected.MAX_CAUSES):
            self.rejections.note('acknowledgement', 'it is dropped', source=f'host-{number}')
        self.assertLessEqual(self.logs.output.count('Invalid'), rejected.MAX_CAUSES + 1)
        self.assertEqual({'acknowledgement': 3 * rejected.MAX_CAUSES}, self.rejections.counts())

    def test_threads(self):
        def work():
            for _ in range(1000):
                self.rejections.note('event', 'it is dropped')

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual({'event': 4000}, self.rejections.counts())
