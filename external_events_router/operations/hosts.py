"""The hosts, and the problems that prevent events from reaching them."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from typing import Any

from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import queues as amqp_queues
from external_events_router.operations import times
from external_events_router.resolver import host_overview

#: Seconds for the questions to the broker.
QUEUE_TIMEOUT = 30.0

#: Intervals of reports after which a missing report is a problem.
MISSED = 3


def list_hosts(
    conf: cfg.ConfigOpts,
    found: Sequence[host_overview.Host],
    queues: Mapping[str, int | None],
    *,
    only_problems: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield hosts with their problems, as plain data.

    :param found: hosts of the database
    :param queues: host to the number of consumers of its queue; None: it has no queue. Hosts that are not a
        key: not known
    """
    # NOTE: nova-compute sends no reports.
    longest = None if conf.compute.driver == 'nova' else MISSED * conf.agent.report_interval
    for host in found:
        queue = _queue(host.name, queues)
        of_host = problems(host, queue, longest_silence=longest)
        if of_host or not only_problems:
            yield {
                'host': host.name,
                'servers': host.servers,
                'last_report': None if host.reported_at is None else times.utc(host.reported_at),
                'breakers_open': host.breakers,
                'held': host.held,
                'queue': queue,
                'problems': of_host,
            }


def ask_queues(
    conf: cfg.ConfigOpts, hosts: Sequence[str], *, timeout: float = QUEUE_TIMEOUT
) -> tuple[Mapping[str, int | None], str | None]:
    """Ask the broker for the consumers of the queues of hosts.

    :param timeout: seconds
    :returns: see :func:`consumers`, and why the broker could not be asked; None: it was asked, or the
        driver has no queues of this service
    """
    if conf.compute.driver == 'nova' or not hosts:
        return {}, None
    try:
        return consumers(conf, hosts, timeout=timeout), None
    except exceptions.RouterError as exc:
        return {}, str(exc)


def consumers(
    conf: cfg.ConfigOpts, hosts: Sequence[str], *, timeout: float = QUEUE_TIMEOUT
) -> Mapping[str, int | None]:
    """Ask RabbitMQ for the consumers of the queues of hosts.

    :param timeout: seconds
    :returns: host to their number, None if there is no queue; empty with another broker
    :raises BrokerUnavailable: the broker cannot be asked
    """
    rpc.get_transport(conf)  # registers the options of the driver
    broker = rpc.get_rabbit(conf)
    if broker is None:
        return {}
    prefix = f'{conf.compute.topic}.'
    with contextlib.closing(amqp_queues.ConsumerCounts(broker, name='host-list')) as counts:
        found = counts.count([f'{prefix}{host}' for host in hosts], timeout=timeout)
    return {queue.removeprefix(prefix): number for queue, number in found.items()}


def problems(host: host_overview.Host, queue: str, *, longest_silence: float | None) -> list[str]:
    """Return what may prevent events from reaching a host in time.

    :param longest_silence: seconds without a report that are usual; None: it sends no reports
    """
    found = []
    if longest_silence is not None and host.silent_for is None:
        found.append('never reported')
    elif longest_silence is not None and (host.silent_for or 0.0) > longest_silence:
        found.append(f'no report for {host.silent_for:.0f} s')
    if queue in ('no queue', 'no consumer'):
        found.append(queue)
    if host.breakers:
        found.append('does not acknowledge')
    if host.held:
        found.append('held events')
    return found


def _queue(host: str, queues: Mapping[str, int | None]) -> str:
    if host not in queues:
        return 'unknown'
    number = queues[host]
    if number is None:
        return 'no queue'
    return f'{number} consumers' if number > 1 else 'no consumer' if not number else '1 consumer'
