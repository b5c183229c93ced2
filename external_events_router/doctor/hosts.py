"""Checks of the hosts: age of the host map, hosts whose events nothing receives."""

from __future__ import annotations

from external_events_router.doctor import base
from external_events_router.operations import hosts as operations
from external_events_router.resolver import host_overview

#: Intervals of reports after which a missing report is a problem.
MISSED = 3

#: Seconds for the questions to the broker.
TIMEOUT = 20.0


def check_map(site: base.Site) -> base.Result:
    """Check that the host map contains servers, and that agents report."""
    if site.conf.host_map.backend == 'nova':
        return base.unused("[host_map] backend is nova: each look-up reads Nova's databases")
    hosts = host_overview.HostOverview(site.database()).read()
    servers = sum(host.servers for host in hosts)
    if not servers:
        return base.warn(
            'the host map contains no server on a host, so each event gets 404 or 422',
            'external-events-manage host-map import FILE, or start agents with a source of servers',
        )
    ages = [host.silent_for for host in hosts if host.silent_for is not None]
    if not ages:
        return base.warn(
            f'{servers} places of servers on {len(hosts)} hosts; no agent has ever reported',
            'start the agents; without reports, import the map again after each change',
        )
    longest = MISSED * site.conf.agent.report_interval
    old = [host.name for host in hosts if host.servers and (host.silent_for or 0.0) > longest]
    evidence = (
        f'{servers} places of servers on {len(hosts)} hosts; last report {min(ages):.0f} s ago, '
        f'oldest report {max(ages):.0f} s ago'
    )
    if old:
        return base.warn(
            f'{evidence}; no report for more than {longest:g} s from {base.few(old)}',
            'external-events-manage host list --problem; then start the agents on these hosts',
        )
    return base.ok(evidence)


def check_queues(site: base.Site) -> base.Result:
    """Find hosts with servers whose queue does not exist, or has no consumer."""
    if site.conf.compute.driver == 'nova':
        return base.unused('[compute] driver is nova: nova-compute creates its queues')
    if site.rabbit() is None:
        return base.unused('[DEFAULT] transport_url is not a RabbitMQ URL')
    hosts = host_overview.HostOverview(site.database()).read()
    names = [host.name for host in hosts if host.servers]
    found = operations.consumers(site.conf, names, timeout=TIMEOUT)
    missing = [name for name in names if name in found and found[name] is None]
    unused = [name for name in names if found.get(name) == 0]
    if missing or unused:
        parts = [f'{len(missing)} hosts with servers have no queue: {base.few(missing)}'] if missing else []
        parts += [f'{len(unused)} queues have no consumer: {base.few(unused)}'] if unused else []
        return base.warn(
            f'{"; ".join(parts)}; events for these hosts are held',
            'start external-events-agent on these hosts, or compare the names with [DEFAULT] host there',
        )
    return base.ok(f'{len(found)} of {len(names)} hosts with servers have a queue with a consumer')


CHECKS = (
    base.Check(
        'host-map', check_map, services=base.WITH_DATABASE, needs=('database-login', 'database-schema')
    ),
    base.Check(
        'host-queues',
        check_queues,
        services=base.WITH_DATABASE,
        needs=('broker-login', 'database-login', 'database-schema'),
        timeout=30.0,
    ),
)
