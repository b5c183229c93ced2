"""Checks once at start whether a broker accepts the queues that this configuration would declare.

If a refusal is detected later, events are answered 200 and held, but never delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
import uuid

from amqp import exceptions as amqp_exceptions
from oslo_log import log

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker as brokers

LOG = log.getLogger(__name__)

#: Milliseconds after which the broker deletes a queue of an interrupted check.
EXPIRES = 60_000


def check_declarations(broker: brokers.Broker, connection: Any, *, transient_quorum: bool) -> None:
    """Declare queues as the clients of this configuration do, and delete them.

    :param connection: result of :meth:`brokers.Broker.connect`; it may be unusable afterwards
    :param transient_quorum: reply and fanout queues of oslo.messaging are quorum queues
    :raises ConfigurationError: the broker refuses them
    """
    try:
        _check_exchange(broker, connection)
        _check_queue(
            connection,
            'amqp_durable_queues',
            durable=broker.durable,
            arguments=broker.queue_arguments,
        )
        _check_queue(
            connection,
            'rabbit_transient_quorum_queue',
            durable=transient_quorum,
            arguments={'x-queue-type': 'quorum'} if transient_quorum else {},
        )
    except (amqp_exceptions.AMQPError, OSError) as exc:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url', reason=f'the broker does not answer: {exc}'
        ) from exc


def _check_exchange(broker: brokers.Broker, connection: Any) -> None:
    """Compare an existing exchange with this configuration.

    All services can use a transient exchange. If the configuration requires a transient exchange,
    oslo.messaging cannot use a durable one.
    """
    channel = connection.channel()
    try:
        channel.exchange_declare(broker.exchange, 'topic', passive=True)
        channel.exchange_declare(
            broker.exchange, 'topic', durable=broker.durable, auto_delete=broker.auto_delete
        )
    except (amqp_exceptions.NotFound, amqp_exceptions.AccessRefused):
        return
    except amqp_exceptions.PreconditionFailed as exc:
        if "'durable'" in exc.reply_text and not broker.durable:
            raise _refused('amqp_durable_queues', exc) from exc
        LOG.warning(
            'Exchange %s has other arguments than this configuration, and is used as it is: %s. To '
            'replace it, see "The broker" in the documentation',
            broker.exchange,
            exc.reply_text,
        )


def _check_queue(connection: Any, option: str, *, durable: bool, arguments: Mapping[str, Any]) -> None:
    channel = connection.channel()
    # NOTE: the name of a reply queue, which every service must be permitted to declare.
    name = f'reply_{uuid.uuid4().hex}'
    try:
        channel.queue_declare(
            name, durable=durable, auto_delete=False, arguments={**arguments, 'x-expires': EXPIRES}
        )
        channel.queue_delete(name)
    except amqp_exceptions.AccessRefused:
        # NOTE: permissions depend on the names of queues, so this refusal does not apply to the real queues.
        return
    except amqp_exceptions.AMQPError as exc:
        raise _refused(option, exc) from exc


def _refused(option: str, exc: amqp_exceptions.AMQPError) -> exceptions.ConfigurationError:
    remedy = ' (set it to true, or remove it, because true is the default)'
    return exceptions.ConfigurationError(
        option=f'[oslo_messaging_rabbit] {option}',
        reason=f'the broker refuses this value{remedy}: {" ".join(str(exc).split())}',
    )
