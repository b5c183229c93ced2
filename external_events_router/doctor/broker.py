"""Checks of RabbitMQ: login, all nodes, alarms, permissions."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import time
from typing import Any
import uuid

import amqp
from amqp import exceptions as amqp_exceptions

from external_events_router import exceptions
from external_events_router.doctor import base
from external_events_router.doctor import probe
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.resolver import rpcapi

#: Seconds for one connection, and for the answer to one message.
TIMEOUT = 5.0
ANSWER_TIMEOUT = 3.0

_NO_RABBIT = '[DEFAULT] transport_url is not a RabbitMQ URL'

#: Text of the broker or of the operating system, and the remedy.
_REMEDIES = (
    (
        'ACCESS_REFUSED',
        'correct user and password in [DEFAULT] transport_url, or run: rabbitmqctl change_password',
    ),
    ('access to vhost', 'rabbitmqctl set_permissions, see external-events-manage broker permissions'),
    (
        'NOT_ALLOWED',
        'correct the virtual host at the end of [DEFAULT] transport_url, or run: rabbitmqctl add_vhost',
    ),
    ('certificate', 'correct [oslo_messaging_rabbit] ssl_ca_file, or the certificate of the broker'),
    ('SSL', 'correct the options ssl_* of [oslo_messaging_rabbit]'),
)
_UNREACHABLE = 'start the broker, or correct host and port in [DEFAULT] transport_url'


def check_login(site: base.Site) -> base.Result:
    """Log in to one of the nodes."""
    broker = site.rabbit()
    if broker is None:
        return base.unused(_NO_RABBIT)
    try:
        with connected(broker, 'login'):
            pass
    except exceptions.BrokerUnavailable as exc:
        reason = str(exc.kwargs['reason'])
        return base.fail(reason, _remedy(reason))
    return base.ok(f'virtual host {broker.virtual_host}, user {broker.nodes[0].username}')


def check_nodes(site: base.Site) -> base.Result:
    """Log in to each node of ``[DEFAULT] transport_url``."""
    broker = site.rabbit()
    if broker is None:
        return base.unused(_NO_RABBIT)
    failures = []
    for node in broker.nodes:
        try:
            with connected(dataclasses.replace(broker, nodes=[node]), 'node'):
                pass
        except exceptions.BrokerUnavailable as exc:
            failures.append(str(exc.kwargs['reason']))
    if failures:
        result = base.fail if len(failures) == len(broker.nodes) else base.warn
        return result(
            f'{len(failures)} of {len(broker.nodes)} nodes do not accept the login: {"; ".join(failures)}',
            _remedy(failures[0]),
        )
    return base.ok(f'all {len(broker.nodes)} nodes accept the login')


def check_alarm(site: base.Site) -> base.Result:
    """Publish a message that no queue receives; a broker in alarm blocks the connection."""
    broker = site.rabbit()
    if broker is None:
        return base.unused(_NO_RABBIT)
    reasons: list[str] = []
    began = time.monotonic()
    with connected(broker, 'alarm', on_blocked=reasons.append) as connection:
        confirmed = _publish_one(site, broker, connection, reasons)
    if reasons:
        return base.fail(
            f'the broker accepts no messages: {reasons[0]}',
            'rabbitmq-diagnostics alarms; then free memory or disk space on the node with the alarm',
        )
    if not confirmed:
        return base.warn(
            f'the broker did not confirm a message within {ANSWER_TIMEOUT:g} s',
            'rabbitmq-diagnostics status; look for overload',
        )
    return base.ok(f'no alarm; login and confirm took {1000 * (time.monotonic() - began):.0f} ms')


def _publish_one(site: base.Site, broker: brokers.Broker, connection: Any, reasons: list[str]) -> bool:
    """Publish to the exchange of this service.

    :returns: whether the broker has answered
    """
    answered = []
    channel = connection.channel()
    exchange, key = own_route(site, broker)
    try:
        channel.confirm_select()
        channel.events['basic_ack'].add(lambda *_args: answered.append(True))
        channel.basic_publish(amqp.Message('{}'), exchange, key)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not (answered or reasons) and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                connection.drain_events(timeout=left)
    except (amqp_exceptions.AccessRefused, amqp_exceptions.NotFound):
        # NOTE: another check reports it. A broker in alarm does not answer.
        return True
    return bool(answered)


def own_route(site: base.Site, broker: brokers.Broker) -> tuple[str, str]:
    """Return an exchange to which this service publishes, and a routing key without a queue."""
    if site.service == base.AGENT:
        return f'{broker.exchange}_acks', f'{rpcapi.ACK_TOPIC}.{probe.HOST}'
    if _is_caller(site):
        return broker.exchange, rpcapi.TOPIC + '.' + probe.HOST
    return broker.exchange, f'{site.conf.compute.topic}.{probe.HOST}'


def check_permissions(site: base.Site) -> base.Result:
    """Use each permission of the role once, with queues of this check."""
    broker = site.rabbit()
    if broker is None:
        return base.unused(_NO_RABBIT)
    refused, missing = [], []
    with connected(broker, 'permissions') as connection:
        for what, step in _steps(site, broker):
            channel = connection.channel()
            try:
                step(channel)
            except amqp_exceptions.AccessRefused as exc:
                refused.append(f'{what} ({_short(exc)})')
            except amqp_exceptions.NotFound:
                missing.append(what)
            except amqp_exceptions.PreconditionFailed:
                # NOTE: it exists with other arguments, which another check reports.
                pass
            else:
                channel.close()
    role = site.service
    host = f' --host {site.agent_hosts[0]}' if role == base.AGENT else ''
    if refused:
        return base.fail(
            f'user {broker.nodes[0].username} must not {"; must not ".join(refused)}',
            f'run what this prints: external-events-manage broker permissions --role {role}{host} '
            f'--user {broker.nodes[0].username}',
        )
    if missing:
        return base.warn(
            f'could not check, because it does not exist: {"; ".join(missing)}', 'start the services'
        )
    return base.ok(f'user {broker.nodes[0].username} has the permissions of the role {role}')


def _steps(site: base.Site, broker: brokers.Broker) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """Yield what a service must be permitted to do, and a function that does it on a channel."""
    acks, reports = (f'{broker.exchange}_{suffix}' for suffix in ('acks', 'reports'))
    declare = functools.partial(_declare_exchange, broker)
    reply = f'reply_{uuid.uuid4().hex}'
    exchange, key = own_route(site, broker)
    if site.service == base.AGENT:
        for host in site.agent_hosts[: base.FEW]:
            queue = f'{site.conf.compute.topic}.{host}'
            yield f'bind the queue {queue}', functools.partial(_use_queue, broker, queue)
        yield f'declare {reports}', functools.partial(declare, reports)
    elif _is_caller(site):
        yield f'declare {broker.exchange}', functools.partial(declare, broker.exchange)
    else:
        for name in (broker.exchange, acks, reports):
            yield f'declare {name}', functools.partial(declare, name)
        own = f'{rpcapi.ACK_TOPIC}.{probe.HOST}:{uuid.uuid4().hex}'
        yield f'declare, bind and read the queue {own}', functools.partial(_use_own_queue, broker, own)
    # NOTE: the only key that a caller may publish reaches the resolvers.
    if not _is_caller(site):
        yield f'publish {key} to {exchange}', functools.partial(_publish, exchange, key)
    if site.service == base.AGENT or _is_caller(site):
        yield f'use the queue {reply}', functools.partial(_use_reply_queue, reply)


def _declare_exchange(broker: brokers.Broker, name: str, channel: Any) -> None:
    # NOTE: the first declaration changes nothing, and needs no permission.
    channel.exchange_declare(name, 'topic', passive=True)
    channel.exchange_declare(name, 'topic', durable=broker.durable, auto_delete=broker.auto_delete)


def _use_queue(broker: brokers.Broker, queue: str, channel: Any) -> None:
    """Bind an existing queue again, as the service does."""
    channel.queue_declare(queue, passive=True)
    channel.queue_bind(queue, broker.exchange, queue)


def _use_own_queue(broker: brokers.Broker, queue: str, channel: Any) -> None:
    channel.queue_declare(
        queue,
        durable=broker.durable,
        auto_delete=False,
        arguments={**broker.queue_arguments, 'x-expires': probe.EXPIRES},
    )
    try:
        channel.queue_bind(queue, broker.exchange, queue)
        channel.basic_get(queue)
    finally:
        with contextlib.suppress(amqp.AMQPError, OSError):
            channel.queue_delete(queue)


def _use_reply_queue(queue: str, channel: Any) -> None:
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={'x-expires': probe.EXPIRES})
    channel.basic_get(queue)
    channel.queue_delete(queue)


def _publish(exchange: str, key: str, channel: Any) -> None:
    channel.confirm_select()
    # NOTE: without the flag mandatory, a message that no queue receives is dropped and confirmed.
    channel.basic_publish_confirm(amqp.Message('{}'), exchange, key, confirm_timeout=ANSWER_TIMEOUT)


@contextlib.contextmanager
def connected(
    broker: brokers.Broker, name: str, *, on_blocked: Callable[[str], None] | None = None
) -> Iterator[Any]:
    """Yield a connection of py-amqp to one of the nodes, and close it at the end.

    :param name: of the check
    :raises BrokerUnavailable: no node accepts the login, or the connection was lost
    """
    # NOTE: with a separate object for the availability: a failed check is not a failure of the service.
    connection = broker.connect(name=f'doctor-{name}', timeout=TIMEOUT, on_blocked=on_blocked)
    try:
        yield connection
    except (amqp.AMQPError, OSError) as exc:
        raise exceptions.BrokerUnavailable(reason=str(exc) or type(exc).__name__) from exc
    finally:
        with contextlib.suppress(amqp.AMQPError, OSError):
            connection.collect()


def check_declarations(site: base.Site) -> base.Result:
    """Check that both clients of the service can use the broker, as each service does when it starts."""
    if site.rabbit() is None:
        return base.unused(_NO_RABBIT)
    try:
        rpc.check_broker(site.conf)
    except exceptions.ConfigurationError as exc:
        return base.fail(str(exc), 'correct this option')
    return base.ok('the broker accepts the queues of this configuration')


def _is_caller(site: base.Site) -> bool:
    return site.service == base.API and site.conf.api.resolver == 'rpc'


def _remedy(reason: str) -> str:
    return next((remedy for text, remedy in _REMEDIES if text in reason), _UNREACHABLE)


def _short(exc: amqp_exceptions.AMQPError) -> str:
    return ' '.join(str(exc.reply_text).split())


CHECKS = (
    base.Check('broker-login', check_login),
    base.Check('broker-nodes', check_nodes, timeout=30.0),
    base.Check('broker-alarm', check_alarm, needs=('broker-login',)),
    base.Check('broker-permissions', check_permissions, needs=('broker-login', 'broker-alarm')),
    base.Check(
        'broker-declarations', check_declarations, needs=('broker-login', 'broker-alarm'), timeout=30.0
    ),
)
