"""Short log messages for RPC messages that oslo.messaging cannot use.

Its RabbitMQ driver drops a message that is no JSON object, that has another content type or
encoding, or whose id it has seen; its server drops a reply to an address that is none. Each
logs a traceback. Any client of the broker can send such messages.

Each of its connections logs an ERROR for each attempt to connect. ``amqp.availability`` logs the same
once for the process, so these messages are logged at DEBUG.
"""

from __future__ import annotations

from collections.abc import Mapping
import logging

from external_events_router import rejected
from external_events_router.messaging.amqp import availability

#: Loggers, and how their log messages with a traceback begin, to what was done.
PROBLEMS = {
    'oslo.messaging._drivers.impl_rabbit': (
        'Failed to process message',
        'it is dropped, because it is no RPC message',
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

#: The logger of replies, and how its log messages about queues that do not exist begin.
REPLIES = 'oslo_messaging._drivers.amqpdriver'
ABOUT_REPLIES = ("%(reply_queue)s doesn't exist", 'The reply %(msg_id)s failed to send')

#: The logger of connections, and how the messages begin that one object logs for all of them.
CONNECTIONS = 'oslo.messaging._drivers.impl_rabbit'
ABOUT_CONNECTIONS = (
    '[%(connection_id)s] AMQP server',
    '[%(connection_id)s] Reconnected to AMQP server',
    'A recoverable connection/channel error occurred',
)

#: The same for messages that have another cause while the broker is available.
CONSEQUENCES = (
    'Unable to connect to AMQP server',
    'Unexpected error during heartbeat',
    'Failed to consume message from queue',
    'Failed to declare consumer',
    'Failed to publish message',
)


class OncePerProcess(logging.Filter):
    """Logs at DEBUG what each connection logs about an unavailable broker."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged, perhaps at another level."""
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
        """Make the filter of one logger.

        :param beginning: of the log messages that are replaced
        :param problem: what was done, for the log
        """
        super().__init__()
        self._beginning = beginning
        self._problem = problem

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged as it is."""
        if not (record.exc_info and str(record.msg).startswith(self._beginning)):
            return True
        rejected.ALL.note('message', self._problem, repr(record.exc_info[1]))
        return False


class LostReplies(logging.Filter):
    """Counts replies to queues that do not exist; the driver logs two messages for each.

    A caller that has ended leaves them, and any client of the broker can make up the name of a queue.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged as it is."""
        if not str(record.msg).startswith(ABOUT_REPLIES):
            return True
        arguments = record.args if isinstance(record.args, Mapping) else {}
        queue = arguments.get('reply_queue') or arguments.get('reply_q') or arguments.get('exc')
        problem = 'a reply is dropped, because its caller has ended or never existed'
        rejected.ALL.note('reply queue', problem, str(queue))
        return False


def install() -> None:
    """Shorten these log messages; more than once has no effect."""
    for name, problem in PROBLEMS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(each, ShortMessages) for each in logger.filters):
            logger.addFilter(ShortMessages(*problem))
    for name, kind in ((CONNECTIONS, OncePerProcess), (REPLIES, LostReplies)):
        logger = logging.getLogger(name)
        if not any(isinstance(each, kind) for each in logger.filters):
            logger.addFilter(kind())
