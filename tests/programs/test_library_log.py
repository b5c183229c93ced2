"""Messages of libraries that report normal operation are not logged; all others are."""

from __future__ import annotations

from tests import base
from tests import interpreter

COMMAND = """
import logging
import logging.config
from amqp import abstract_channel
from external_events_router.cmd import api
from external_events_router.messaging import driver_log

logging.basicConfig(format='%(name)s %(message)s')
logging.getLogger().setLevel(logging.INFO)
logging.config.dictConfig(api.LOGGERS)
driver_log.install()
driver_log.install()
granian = logging.getLogger('_granian')
granian.warning('Configuration allows spawning up to 512 Python threads, which seems quite high')
granian.info('Granian shutdown completed, see ya!')
granian.warning('Killing worker-1 after it refused to gracefully stop')
amqp = logging.getLogger('amqp')
amqp.warning(abstract_channel.IGNORED_METHOD_DURING_CHANNEL_CLOSE, (60, 30), 1)
amqp.warning('another message')
"""


class LibraryLogTest(base.TestCase):
    def test_which_messages_are_logged(self) -> None:
        done = interpreter.run(COMMAND)
        self.assertEqual(0, done.returncode, done.stderr)
        expected = ['_granian Killing worker-1 after it refused to gracefully stop', 'amqp another message']
        self.assertEqual(expected, done.stderr.splitlines())
