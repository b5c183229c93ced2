"""Log messages about queues that the broker refuses, each with the command that repairs it.

Many queues are often refused for one reason. The first is logged at once, the others together at most
every :data:`INTERVAL`; a queue that stays refused for the same reason is not logged again.
"""

from __future__ import annotations

import shlex
import threading
import time

from oslo_log import log

from external_events_router.messaging.amqp import declaring

LOG = log.getLogger(__name__)

#: Seconds between two messages of one kind.
INTERVAL = 10.0

#: Queues that one message names.
NAMED = 5

#: Characters of the broker's explanation in a message.
LONGEST = 300


class Notices:
    """What is to be logged about the queues of one connection. Thread-safe."""

    def __init__(self, name: str, virtual_host: str) -> None:
        """:param name: of the connection"""
        self._name = name
        self._virtual_host = shlex.quote(virtual_host)
        # Guards what follows.
        self._lock = threading.Lock()
        # Queue to the explanation of the broker.
        self._refused: dict[str, str] = {}
        self._differing: dict[str, str] = {}
        # Not logged yet: the kind, and its messages for each queue.
        self._waiting: dict[str, dict[str, str]] = {}
        self._logged_at: dict[str, float] = {}

    def refused(self) -> dict[str, str]:
        """Queues that are refused now, and why."""
        with self._lock:
            return dict(self._refused)

    def refuse(self, queue: str, refused: declaring.Refused, pause: float) -> None:
        """The broker refused a queue.

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
        """A queue is used though it has other arguments than it would get from us."""
        text = difference[:LONGEST]
        with self._lock:
            if self._differing.get(queue) == text:
                return
            self._differing[queue] = text
        self._add(
            'differs',
            queue,
            f'queue {queue} has other arguments than this configuration asks for, and is used as it is: '
            f'{text}. To replace it: {self._delete(queue)} (it is declared again at once; events whose '
            'messages are deleted with it are delivered again).',
        )

    def deleted(self, queue: str) -> None:
        """A queue was deleted, or its node is down."""
        self._add('deleted', queue, f'queue {queue} was deleted or is not available; it is declared again.')

    def exchange(self, exchange: str, refused: declaring.Refused) -> None:
        """The broker refused the exchange."""
        self._add(
            'exchange',
            exchange,
            f'exchange {exchange} is missing and cannot be declared, so no message is delivered: '
            f'{refused.text[:LONGEST]}. {self._remedy(exchange, refused)}',
        )

    def settled(self, queue: str) -> None:
        """A queue is consumed, or is not wanted any more."""
        with self._lock:
            was_refused = self._refused.pop(queue, None)
        if was_refused is not None:
            LOG.info('%s: queue %s is received again', self._name, queue)

    def log(self) -> None:
        """Log what has waited long enough."""
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
            f'Look at it: rabbitmqctl list_queues --vhost {self._virtual_host} name durable arguments; '
            f'to replace it: {self._delete(queue)}'
        )
