"""Messages that oslo.messaging's driver cannot read have no traceback in the log."""

from __future__ import annotations

import logging

from oslo_messaging._drivers import amqpdriver

from external_events_router import rejected
from external_events_router.messaging import driver_log
from tests import base


class ShortMessagesTest(base.TestCase):
    def test_one_line_for_many(self) -> None:
        rejected.ALL.reset()
        self.addCleanup(rejected.ALL.reset)
        driver_log.install()
        driver_log.install()
        for name, (beginning, _problem) in driver_log.PROBLEMS.items():
            logger = logging.getLogger(name)
            ours = [each for each in logger.filters if isinstance(each, driver_log.ShortMessages)]
            self.assertEqual(1, len(ours))
            for _ in range(100):
                try:
                    dict('x')  # type: ignore[call-overload]
                except ValueError:
                    logger.exception(beginning + ' ... skipping it.')  # noqa: G003
        self.assertNotIn('Traceback', self.logs.output)
        self.assertEqual(1, self.logs.output.count('Invalid message'))
        self.assertEqual(300, rejected.ALL.counts()['message'])

    def test_other_errors_stay(self) -> None:
        driver_log.install()
        try:
            raise OSError('connection lost')
        except OSError:
            logging.getLogger(next(iter(driver_log.PROBLEMS))).exception('Unexpected error')
        self.assertIn('Traceback', self.logs.output)

    def test_replies_to_queues_that_do_not_exist(self) -> None:
        rejected.ALL.reset()
        self.addCleanup(rejected.ALL.reset)
        driver_log.install()
        driver_log.install()
        cache = amqpdriver.ObsoleteReplyQueuesCache()
        for number in range(100):
            cache.add(f'reply_{number}', 'x' * 1000)
            self.assertFalse(cache.reply_q_valid(f'reply_{number}', 'x' * 1000))
        lines = self.logs.output.splitlines()
        self.assertEqual(1, len(lines), lines)
        self.assertIn('Invalid reply queue: a reply is dropped, because its caller has ended', lines[0])
        self.assertIn("'reply_0'", lines[0])
        self.assertLess(len(lines[0]), 500)
        self.assertEqual({'reply queue': 200}, rejected.ALL.counts())
