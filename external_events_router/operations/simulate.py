"""The expected answer to an event that is not sent.

It reads the host map, the tables of held events, and the number of consumers of the queues, and
asks one resolver for circuit breakers. It sends nothing to a host and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import datetime
import itertools
import time
from typing import Any

from oslo_config import cfg

from external_events_router import events
from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.journal import simulate as predicting
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import queues as amqp_queues
from external_events_router.resolver import host_map
from external_events_router.resolver import rpcapi
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import host_map as nova_host_map
from external_events_router.resolver.drivers.nova import versions
from external_events_router.resolver.hold import base as hold_base
from external_events_router.resolver.hold import inspection
from external_events_router.resolver.hold import store
from external_events_router.resolver.host_map import base

#: Seconds for each question: to the host map, to a broker, and to a resolver.
TIMEOUT = 3.0

#: Held events that are counted.
MAX_HELD = 10_000

_BREAKERS: Mapping[rpcapi.BreakerState, predicting.Breaker] = {
    rpcapi.BreakerState.CLOSED: predicting.Breaker.CLOSED,
    rpcapi.BreakerState.OPEN: predicting.Breaker.OPEN,
    rpcapi.BreakerState.UNCONSUMED: predicting.Breaker.NO_CONSUMER,
}

#: Asks for the circuit breakers of hosts.
Breakers = Callable[[Sequence[str]], Mapping[str, rpcapi.BreakerState]]


def simulate(
    conf: cfg.ConfigOpts,
    database: session.Database,
    event: events.Event,
    *,
    breakers: Breakers,
) -> tuple[predicting.Facts, dict[str, Any]]:
    """Return the facts about the server of an event, and the prediction as plain data.

    :param database: the database of held events
    :param breakers: asks a resolver, see :func:`asking`
    """
    facts = collect(conf, database, event.server_uuid, breakers=breakers)
    expected = predicting.predict(event, facts)
    problems = (facts.map_problem, facts.hold_problem, facts.broker_problem, facts.breakers_problem)
    return facts, {
        'server': event.server_uuid,
        'event': event.name if event.tag is None else f'{event.name} ({event.tag})',
        'source': facts.source,
        'age': None if facts.age is None else round(facts.age),
        'hosts': [dataclasses.asdict(host) for host in facts.hosts],
        'held': facts.held,
        'code': int(expected.code),
        'reason': str(expected.reason),
        'expected': expected.text,
        'not_known': '; '.join(problem for problem in problems if problem) or None,
    }


def collect(
    conf: cfg.ConfigOpts, database: session.Database, server_uuid: str, *, breakers: Breakers
) -> predicting.Facts:
    """Return what is known about a server.

    :param database: the database of held events
    :param breakers: asks a resolver
    """
    nova = conf.compute.driver == 'nova'
    facts = predicting.Facts(
        source=_SOURCES.get(conf.host_map.backend, f'[host_map] backend = {conf.host_map.backend}'),
        holds_unassigned=conf.delivery.hold_unassigned > 0,
        confirmed=not (nova and conf.nova.acknowledge == 'broker'),
    )
    try:
        found = _look_up(conf, server_uuid)
    except exceptions.RouterError as exc:
        return dataclasses.replace(facts, map_problem=str(exc))
    if server_uuid in found.unavailable:
        return dataclasses.replace(facts, map_problem=found.why(server_uuid))
    record = found.records.get(server_uuid)
    names = found.hosts.get(server_uuid, ())
    facts = dataclasses.replace(
        facts,
        known=server_uuid in found.hosts,
        age=_age(record) if isinstance(record, nova_host_map.Record) else None,
        hosts=tuple(_host(name, record) for name in names),
    )
    facts = _with_held(facts, database, server_uuid)
    facts = _with_queues(facts, conf, record)
    return _with_breakers(facts, breakers) if names and facts.broker_problem is None else facts


_SOURCES = {
    'sql': 'the host map in the database, read now',
    'nova': "Nova's databases, read now",
}


def _look_up(conf: cfg.ConfigOpts, server_uuid: str) -> base.Lookup:
    servers = host_map.load(conf)
    with contextlib.closing(servers):
        if isinstance(servers, base.PartialHostMap):
            return servers.look_up([server_uuid], timeout=TIMEOUT)
        return base.Lookup(servers.hosts_of([server_uuid]))


def _host(name: str, record: object) -> predicting.Host:
    cell = record.cells.get(name) if isinstance(record, nova_host_map.Record) else None
    return predicting.Host(name, cell=None if cell is None else str(cell))


def _age(record: nova_host_map.Record) -> float | None:
    """Return the seconds since Nova changed the instance."""
    data = record.primitive.get('nova_object.data')
    changed = data.get('updated_at') if isinstance(data, Mapping) else None
    if not isinstance(changed, str):
        return None
    try:
        return max(0.0, time.time() - datetime.datetime.fromisoformat(changed).timestamp())
    except ValueError:
        return None


def _with_held(facts: predicting.Facts, database: session.Database, server_uuid: str) -> predicting.Facts:
    chosen = inspection.Selection(state=hold_base.State.HELD, server_uuid=server_uuid)
    try:
        found = inspection.Inspection(database).records(chosen)
        held = len(list(itertools.islice(found, MAX_HELD)))
        busy = store.HoldStore(database).servers_among([server_uuid])
    except exceptions.RouterError as exc:
        return dataclasses.replace(facts, hold_problem=str(exc))
    if server_uuid not in busy:
        return dataclasses.replace(facts, held=held)
    free = busy[server_uuid]
    hosts = tuple(dataclasses.replace(host, behind=host.name not in free) for host in facts.hosts)
    return dataclasses.replace(facts, held=held, hosts=hosts)


def _with_queues(facts: predicting.Facts, conf: cfg.ConfigOpts, record: object) -> predicting.Facts:
    """The queues of the hosts; only RabbitMQ can be asked."""
    hosts, problem = [], None
    for host in facts.hosts:
        try:
            queue, consumers = _queue(conf, host.name, record)
        except exceptions.RouterError as exc:
            hosts.append(host)
            problem = str(exc)
        else:
            hosts.append(dataclasses.replace(host, queue=queue, consumers=consumers))
    return dataclasses.replace(facts, hosts=tuple(hosts), broker_problem=problem)


def _queue(conf: cfg.ConfigOpts, host: str, record: object) -> tuple[bool | None, int | None]:
    """Return whether the queue of a host exists, and the number of its consumers.

    :raises BrokerUnavailable: the broker cannot be asked
    """
    rpc.get_transport(conf)  # registers the options of the driver
    if isinstance(record, nova_host_map.Record):
        broker = rpc.get_broker(conf, url=record.cells[host].transport)
        # NOTE: every release serves this topic, whichever the casts of the router go to.
        name = f'{versions.OLD.topic}.{cells.host_name(host)}'
    else:
        broker, name = rpc.get_broker(conf), f'{conf.compute.topic}.{host}'
    if broker is None:
        return None, None
    counts = amqp_queues.ConsumerCounts(broker, name='simulate')
    with contextlib.closing(counts):
        found = counts.count([name], timeout=TIMEOUT)
    if name not in found:
        return None, None
    return found[name] is not None, found[name]


def _with_breakers(facts: predicting.Facts, breakers: Breakers) -> predicting.Facts:
    try:
        states = breakers([host.name for host in facts.hosts])
    except exceptions.RouterError as exc:
        return dataclasses.replace(
            facts, breakers_problem=f'no resolver answered the question for circuit breakers: {exc}'
        )
    hosts = tuple(
        dataclasses.replace(host, breaker=_BREAKERS[states[host.name]]) if host.name in states else host
        for host in facts.hosts
    )
    return dataclasses.replace(facts, hosts=hosts)


def asking(conf: cfg.ConfigOpts) -> Breakers:
    """How a resolver is asked over the broker of the configuration."""

    def ask(hosts: Sequence[str]) -> Mapping[str, rpcapi.BreakerState]:
        transport = rpc.get_transport(conf)
        with contextlib.ExitStack() as stack:
            stack.callback(transport.cleanup)
            return rpcapi.OperatorAPI.from_conf(conf, transport).breakers(hosts, timeout=TIMEOUT)

    return ask
