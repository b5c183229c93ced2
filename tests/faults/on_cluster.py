"""Faults of a cluster of three RabbitMQ nodes, on which the service uses quorum queues."""

from __future__ import annotations

import signal

from tests.faults import catalogue


@catalogue.fault('cluster-majority-killed', affects='broker', in_short=True, broker=catalogue.CLUSTER)
def majority_killed(site, timing):
    """Two of three RabbitMQ nodes killed, started again after 8 s."""
    _killed(site, timing, 2)


@catalogue.fault('cluster-node-killed', affects='broker', broker=catalogue.CLUSTER)
def node_killed(site, timing):
    """One of three RabbitMQ nodes killed, started again after 8 s."""
    _killed(site, timing, 1)


@catalogue.fault('cluster-agent-killed', affects='agents-a', in_short=True, broker=catalogue.CLUSTER)
def agent_killed(site, timing):
    """An agent process killed beside a cluster, started again after 8 s."""
    agents = site.router.agents['agents-a']
    agents.stop(number=signal.SIGKILL)
    timing.last(8, short=4)
    site.start_agents(agents)


def _killed(site, timing, number):
    site.rabbit.kill(number)
    timing.last(8, short=8)
    site.rabbit.start(number)
