"""Short log messages for problems that oslo.messaging logs with a traceback.

Its RabbitMQ driver drops a message that is not a JSON object, that has another content type or encoding,
or whose id it has already seen. Its server drops a reply to an invalid address. Both log a traceback for
each. Any client of the broker can send such messages.

Each of its connections logs an ERROR for each attempt to connect. ``amqp.availability`` logs the same
once for the process, so these messages are logged at DEBUG.
"""

from __future__ import annotations

from collections.abc import Mapping
import logging

from external_events_router import rejected
from external_events_router.messaging.amqp import availability
from external_events_router.process import library_log

#: Logger, to the prefix of its log messages with a traceback, and the consequence.
PROBLEMS = {
    'oslo.messaging._drivers.impl_rabbit': (
        'Failed to process message',
        'it is dropped, because it is not an RPC message',
    ),
    'oslo_messaging._drivers.amqpdriver': (
        'ignoring duplicate message',
        'it is dropped, because a message with the same id was handled already',
    ),
    'oslo_messaging.rpc.server': (
        'Can not send reply for message',
        'its reply is dropped, because it cannot be sent to the address that the message names',
    ),
}

#: The logger of replies, and the prefixes of its log messages about queues that do not exist.
REPLIES = 'oslo_messaging._drivers.amqpdriver'
ABOUT_REPLIES = ("%(reply_queue)s doesn't exist", 'The reply %(msg_id)s failed to send')

#: The logger of connections, and the prefixes of messages that ``amqp.availability`` logs once for all.
CONNECTIONS = 'oslo.messaging._drivers.impl_rabbit'
ABOUT_CONNECTIONS = (
    '[%(connection_id)s] AMQP server',
    '[%(connection_id)s] Reconnected to AMQP server',
    'A recoverable connection/channel error occurred',
)

#: Prefixes of messages that are logged at DEBUG only while the broker is unavailable.
CONSEQUENCES = (
    'Unable to connect to AMQP server',
    'Unexpected error during heartbeat',
    'Failed to consume message from queue',
    'Failed to declare consumer',
    'Failed to publish message',
)


class OncePerProcess(logging.Filter):
    """Changes messages of single connections about an unavailable broker to DEBUG."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record; its level may be changed."""
        text = str(record.msg)
        if not text.startswith(ABOUT_CONNECTIONS) and not (
            text.startswith(CONSEQUENCES) and availability.any_lost()
        ):
            return True
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


class ShortMessages(logging.Filter):
    """Counts unusable messages instead of logging a traceback for each."""

    def __init__(self, beginning: str, problem: str) -> None:
        """Create the filter of one logger.

        :param beginning: prefix of the log messages that are replaced
        :param problem: the consequence, for the log
        """
        super().__init__()
        self._beginning = beginning
        self._problem = problem

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record unchanged."""
        if not (record.exc_info and str(record.msg).startswith(self._beginning)):
            return True
        rejected.ALL.note('message', self._problem, repr(record.exc_info[1]))
        return False


class LostReplies(logging.Filter):
    """Counts replies to queues that do not exist; the driver logs two messages for each.

    They are left by callers that have ended. In addition, any client of the broker can invent a queue name.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record unchanged."""
        if not str(record.msg).startswith(ABOUT_REPLIES):
            return True
        arguments = record.args if isinstance(record.args, Mapping) else {}
        queue = arguments.get('reply_queue') or arguments.get('reply_q') or arguments.get('exc')
        problem = 'a reply is dropped, because its caller has ended or never existed'
        rejected.ALL.note('reply queue', problem, str(queue))
        return False


def install() -> None:
    """Install the filters. Repeated calls have no effect."""
    # NOTE: oslo.messaging cancels its consumers while messages arrive. They stay in their queues.
    library_log.drop('amqp', 'Received method %s during closing channel')
    for name, problem in PROBLEMS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(each, ShortMessages) for each in logger.filters):
            logger.addFilter(ShortMessages(*problem))
    for name, kind in ((CONNECTIONS, OncePerProcess), (REPLIES, LostReplies)):
        logger = logging.getLogger(name)
        if not any(isinstance(each, kind) for each in logger.filters):
            logger.addFilter(kind())
