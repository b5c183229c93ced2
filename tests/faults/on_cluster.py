"""Faults of a cluster of three RabbitMQ nodes, on which the service uses quorum queues."""

from __future__ import annotations

import signal

from tests.faults import catalogue


@catalogue.fault('cluster-majority-killed', touches='broker', in_short=True, broker=catalogue.CLUSTER)
def majority_killed(site, pace):
    """Two of three RabbitMQ nodes killed, started again after 8 s."""
    _killed(site, pace, 2)


@catalogue.fault('cluster-node-killed', touches='broker', broker=catalogue.CLUSTER)
def node_killed(site, pace):
    """One of three RabbitMQ nodes killed, started again after 8 s."""
    _killed(site, pace, 1)


@catalogue.fault('cluster-agent-killed', touches='agents-a', in_short=True, broker=catalogue.CLUSTER)
def agent_killed(site, pace):
    """An agent process killed beside a cluster, started again after 8 s."""
    agents = site.router.agents['agents-a']
    agents.stop(number=signal.SIGKILL)
    pace.last(8, short=4)
    site.start_agents(agents)


def _killed(site, pace, number):
    site.rabbit.kill(number)
    pace.last(8, short=8)
    site.rabbit.start(number)
