"""Log messages about queues that the broker refuses, each with the command that repairs it.

Many queues are often refused for one reason. The first is logged immediately, further queues together at
most every :data:`INTERVAL`. A queue that is still refused for the same reason is not logged again.
"""

from __future__ import annotations

import shlex
import threading
import time

from oslo_log import log

from external_events_router.messaging.amqp import declaring

LOG = log.getLogger(__name__)

#: Minimum seconds between two messages of one kind.
INTERVAL = 10.0

#: Maximum number of queues that one message names.
NAMED = 5

#: Maximum characters of the broker's explanation in a message.
LONGEST = 300


class Notices:
    """Collects log messages about the queues of one connection. Thread-safe."""

    def __init__(self, name: str, virtual_host: str) -> None:
        """:param name: name of the connection"""
        self._name = name
        self._virtual_host = shlex.quote(virtual_host)
        # Guards the attributes below.
        self._lock = threading.Lock()
        # Queue to the explanation of the broker.
        self._refused: dict[str, str] = {}
        self._differing: dict[str, str] = {}
        # Messages that are not logged yet: kind to queue to text.
        self._waiting: dict[str, dict[str, str]] = {}
        self._logged_at: dict[str, float] = {}

    def refused(self) -> dict[str, str]:
        """Return the queues that are refused now, and the reason."""
        with self._lock:
            return dict(self._refused)

    def refuse(self, queue: str, refused: declaring.Refused, pause: float) -> None:
        """Report that the broker has refused a queue.

        :param pause: seconds until it is tried again
        """
        text = refused.text[:LONGEST]
        with self._lock:
            if self._refused.get(queue) == text:
                return
            self._refused[queue] = text
        self._add(
            'refused',
            queue,
            f'the broker refuses queue {queue}, so its messages are not received; other queues are not '
            f'affected: {text}. {self._remedy(queue, refused)} It is tried again in {pause:.0f} s.',
        )

    def differs(self, queue: str, difference: str) -> None:
        """Report that a queue is used although its arguments differ from the configuration."""
        text = difference[:LONGEST]
        with self._lock:
            if self._differing.get(queue) == text:
                return
            self._differing[queue] = text
        self._add(
            'differs',
            queue,
            f'queue {queue} has other arguments than this configuration, and is used as it is: '
            f'{text}. To replace it: {self._delete(queue)} (it is declared again immediately; events whose '
            'messages are deleted with it are delivered again).',
        )

    def deleted(self, queue: str) -> None:
        """Report that a queue was deleted, or that its node is down."""
        self._add('deleted', queue, f'queue {queue} was deleted or is not available; it is declared again.')

    def exchange(self, exchange: str, refused: declaring.Refused) -> None:
        """Report that the broker has refused the exchange."""
        self._add(
            'exchange',
            exchange,
            f'exchange {exchange} is missing and cannot be declared, so no message is delivered: '
            f'{refused.text[:LONGEST]}. {self._remedy(exchange, refused)}',
        )

    def settled(self, queue: str) -> None:
        """Report that a queue is consumed, or is not needed any longer."""
        with self._lock:
            was_refused = self._refused.pop(queue, None)
        if was_refused is not None:
            LOG.info('%s: queue %s is received again', self._name, queue)

    def log(self) -> None:
        """Log messages that have waited long enough."""
        now = time.monotonic()
        with self._lock:
            kinds = [kind for kind in self._waiting if now - self._logged_at.get(kind, -INTERVAL) >= INTERVAL]
            due = [self._waiting.pop(kind) for kind in kinds]
            self._logged_at.update(dict.fromkeys(kinds, now))
        for messages in due:
            text = next(iter(messages.values()))
            others = list(messages)[1:]
            if others:
                more = f' and {len(others) - NAMED} more' if len(others) > NAMED else ''
                text += f' The same applies to {", ".join(others[:NAMED])}{more}.'
            LOG.warning('%s: %s', self._name, text)

    def _add(self, kind: str, queue: str, text: str) -> None:
        with self._lock:
            self._waiting.setdefault(kind, {})[queue] = text
        self.log()

    def _delete(self, queue: str) -> str:
        return f'rabbitmqctl delete_queue --vhost {self._virtual_host} {shlex.quote(queue)}'

    def _remedy(self, queue: str, refused: declaring.Refused) -> str:
        if refused.code == declaring.ACCESS_REFUSED:
            return (
                f'Check the permissions: rabbitmqctl list_permissions --vhost {self._virtual_host}; a queue '
                'of another exclusive consumer is refused as well.'
            )
        if refused.code == declaring.RESOURCE_LOCKED:
            return (
                'Another connection owns it; find and end this connection: rabbitmqctl list_queues '
                f'--vhost {self._virtual_host} name owner_pid'
            )
        if refused.code == declaring.INTERNAL_ERROR and 'deprecated' in refused.text:
            return 'Set [oslo_messaging_rabbit] amqp_durable_queues = true and restart this service.'
        return (
            f'Inspect it: rabbitmqctl list_queues --vhost {self._virtual_host} name durable arguments; '
            f'to replace it: {self._delete(queue)}'
        )
