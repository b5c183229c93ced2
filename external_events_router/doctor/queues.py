"""Check of the arguments of existing queues."""

from __future__ import annotations

from collections.abc import Sequence
import time
from typing import Any

from amqp import exceptions as amqp_exceptions

from external_events_router import exceptions
from external_events_router.doctor import base
from external_events_router.doctor import broker as broker_checks
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.resolver import host_overview
from external_events_router.resolver import rpcapi

#: Seconds for all questions to the broker.
TIMEOUT = 8.0

_REMEDY = (
    'messages arrive nevertheless; to replace a queue, stop the services that consume it, run '
    'rabbitmqctl delete_queue NAME, and start them again (see "The broker" in the documentation)'
)


def check_arguments(site: base.Site) -> base.Result:
    """Compare the arguments of existing queues with the configuration."""
    broker = site.rabbit()
    if broker is None:
        return base.unused('[DEFAULT] transport_url is not a RabbitMQ URL')
    names = [f'{site.conf.compute.topic}.{host}' for host in site.agent_hosts]
    if site.service != base.AGENT:
        names = [rpcapi.TOPIC, rpcapi.REPORT_TOPIC, *_queues_of_hosts(site)]
    deadline = time.monotonic() + TIMEOUT
    different, unknown, checked, missing = [], 0, 0, 0
    with broker_checks.connected(broker, 'queues') as connection:
        for name in names:
            if time.monotonic() > deadline:
                break
            checked += 1
            try:
                _declare_existing(connection, broker, name)
            except amqp_exceptions.PreconditionFailed as exc:
                different.append(' '.join(str(exc.reply_text).split()))
            except amqp_exceptions.AccessRefused:
                unknown += 1
            except amqp_exceptions.NotFound:
                # NOTE: another check reports hosts without a queue.
                missing += 1
    evidence = f'{checked} of {len(names)} queues checked, {missing} of them do not exist' + (
        f', {unknown} without permission (use --service agent on their hosts)' if unknown else ''
    )
    if different:
        return base.warn(
            f'{len(different)} queues do not match the configuration: {different[0]}; {evidence}',
            _REMEDY,
        )
    return base.ok(evidence)


def _queues_of_hosts(site: base.Site) -> Sequence[str]:
    """Return the queues of the hosts in the map; empty if they are unknown."""
    if site.conf.compute.driver == 'nova':
        return ()
    try:
        hosts = host_overview.HostOverview(site.database()).read()
    except exceptions.RouterError:
        # Another check reports the database.
        return ()
    return [f'{site.conf.compute.topic}.{host.name}' for host in hosts]


def _declare_existing(connection: Any, broker: brokers.Broker, name: str) -> None:
    """Declare an existing queue with the arguments of the configuration, which changes nothing."""
    channel = connection.channel()
    channel.queue_declare(name, passive=True)
    channel.queue_declare(
        name,
        durable=broker.durable,
        auto_delete=broker.auto_delete,
        arguments=dict(broker.queue_arguments),
    )
    channel.close()


CHECKS = (base.Check('queue-arguments', check_arguments, needs=('broker-login',)),)
