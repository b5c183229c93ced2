"""``host``: the hosts, and what prevents events from reaching them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib

from cliff import command
from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import times
from external_events_router.db import migration
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import queues as amqp_queues
from external_events_router.resolver import host_overview

#: Seconds for the questions to the broker.
QUEUE_TIMEOUT = 30.0

#: Intervals of reports after which a missing report is a problem.
MISSED = 3

COLUMNS = ('host', 'servers', 'last_report', 'breakers_open', 'held', 'queue', 'problem')


class List(app.Lister):
    """List the hosts of the host map, of reports, of circuit breakers and of held events.

    "breakers_open" is the number of resolver workers whose circuit breaker for the host is open, "held" the
    number of held events of servers that wait for the host. Times are UTC by the clock of the database.
    With RabbitMQ, "queue" is the number of consumers of the queue of the host.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--problem', action='store_true', help='List only hosts that may not receive events in time.'
        )
        parser.add_argument('--no-queues', action='store_true', help='Do not connect to the broker.')
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        conf = app.configuration(self)
        database = app.open_database(self)
        migration.check(database)
        hosts = host_overview.HostOverview(database).read()
        queues: Mapping[str, int | None] = {}
        if not parsed_args.no_queues and conf.compute.driver != 'nova':
            queues = self._queues(conf, [host.name for host in hosts])
        return COLUMNS, self._rows(conf, hosts, queues, only_problems=parsed_args.problem)

    def _queues(self, conf: cfg.ConfigOpts, hosts: Sequence[str]) -> Mapping[str, int | None]:
        """Host to the number of consumers of its queue; None: it has no queue. Empty: not known."""
        try:
            return consumers(conf, hosts)
        except exceptions.RouterError as exc:
            self.app.stderr.write(f'The state of the queues is not known: {exc}\n')
            return {}

    def _rows(
        self,
        conf: cfg.ConfigOpts,
        hosts: Sequence[host_overview.Host],
        queues: Mapping[str, int | None],
        *,
        only_problems: bool,
    ) -> Iterator[tuple[object, ...]]:
        # NOTE: nova-compute sends no reports.
        longest = None if conf.compute.driver == 'nova' else MISSED * conf.agent.report_interval
        for host in hosts:
            queue = _queue(host.name, queues)
            found = problems(host, queue, longest_silence=longest)
            if found or not only_problems:
                yield (
                    host.name,
                    host.servers,
                    'never' if host.reported_at is None else times.utc(host.reported_at),
                    host.breakers,
                    host.held,
                    queue,
                    ', '.join(found),
                )


def consumers(conf: cfg.ConfigOpts, hosts: Sequence[str]) -> Mapping[str, int | None]:
    """Ask RabbitMQ for the consumers of the queues of hosts.

    :returns: host to their number, None if there is no queue; empty with another broker
    :raises BrokerUnavailable: the broker cannot be asked
    """
    rpc.get_transport(conf)  # registers the options of the driver
    broker = rpc.get_rabbit(conf)
    if broker is None:
        return {}
    prefix = f'{conf.compute.topic}.'
    with contextlib.closing(amqp_queues.ConsumerCounts(broker, name='host-list')) as counts:
        found = counts.count([f'{prefix}{host}' for host in hosts], timeout=QUEUE_TIMEOUT)
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


COMMANDS: dict[str, type[command.Command]] = {'host list': List}
