"""Faults of the processes of the service, and of their machines."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid

from tests.faults import catalogue
from tests.faults import clock
from tests.faults import site as sites
from tests.integration import deployment
from tests.integration import services

#: Seconds until workers of a killed parent must have ended.
PARENTLESS = 5.0

#: Number of posted events after which a temporary load has begun.
BUSY = 50


@catalogue.fault('resolver-killed', affects='resolver', in_short=True)
def resolver_worker(site, timing):
    """One resolver worker killed in mid-batch, 3 times."""
    for _ in timing.times(3, short=1):
        _kill_busy(site, site.resolver_workers, 1)
        timing.last(5, short=1)


@catalogue.fault('resolvers-killed', affects='resolver', in_short=True)
def resolver_workers(site, timing):
    """All resolver workers killed in mid-batch."""
    _kill_busy(site, site.resolver_workers, None)


@catalogue.fault('api-worker-killed', affects='api', in_short=True)
def api_worker(site, timing):
    """One api worker killed in mid-batch, 3 times."""
    for _ in timing.times(3, short=1):
        _kill_busy(site, site.api_workers, 1)
        timing.last(5, short=1)


@catalogue.fault('api-parent-killed', affects='api', in_short=True)
def api_parent(site, timing):
    """The parent of the api workers killed, and the api started again, 3 times."""
    for _ in timing.times(3, short=1):
        pid = site.router.api.pid
        site.router.api.stop(number=signal.SIGKILL)
        try:
            ended = sites.waited(
                lambda: not deployment.listens(site.router.port), until=time.monotonic() + PARENTLESS
            )
        finally:
            # NOTE: remaining workers would keep the port, and prevent the end of this test.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        if ended is None:
            site.problems.append(f'workers still had the port {PARENTLESS} s after the end of their parent')
        site.router.api.start()
        site.router.wait_for_api()
        timing.last(3, short=1)


@catalogue.fault('agent-acks-slow', affects='agents-a agents-b agents-c', in_short=True)
def agent_acks_slow(site, timing):
    """Agents acknowledge every 7th delivery after 3 s, for 30 s."""
    with contextlib.ExitStack() as undo:
        for agents in site.router.agents.values():
            agents.stop()
            agents.environment = {**os.environ, 'EER_TEST_SLOW_ACKS': '7:3'}
            undo.callback(site.start_agents, agents)
            undo.callback(setattr, agents, 'environment', None)
            undo.callback(agents.stop)
            site.start_agents(agents)
        timing.last(30, short=8)


@catalogue.fault('agent-killed', affects='agents-a', in_short=True)
def agent_killed(site, timing):
    """An agent process killed, started again after 10 s."""
    agents = site.router.agents['agents-a']
    agents.stop(number=signal.SIGKILL)
    timing.last(10, short=3)
    site.start_agents(agents)


@catalogue.fault('agent-stopped', affects='agents-b', in_short=True)
def agent_stopped(site, timing):
    """An agent process frozen (SIGSTOP) for 20 s."""
    pid = site.router.agents['agents-b'].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        timing.last(20, short=5)
    finally:
        os.kill(pid, signal.SIGCONT)


@catalogue.fault('agent-restarted', affects='agents-a')
def agent_restarted(site, timing):
    """An agent process restarted 20 times."""
    agents = site.router.agents['agents-a']
    for _ in timing.times(20, short=2):
        agents.stop()
        site.start_agents(agents)


@catalogue.fault('agent-absent', affects='database broker', in_short=True)
def agent_absent(site, timing):
    """An agent absent from the beginning, started after 10 s."""
    host = f'host-new-{uuid.uuid4().hex[:6]}'
    servers = [str(uuid.uuid4()) for _ in range(3)]
    site.move({server: [host] for server in servers})
    with site.sending(servers):
        timing.last(10, short=4)
        agents = site.router.start_agents(host, host)
        timing.last(5, short=1)
    site.settle(servers)
    site.forget(servers)
    agents.stop()


@catalogue.fault('server-moved', affects='agents-b database broker', in_short=True)
def server_moved(site, timing):
    """The servers of a host that is down moved, with events held for them, to a running host."""
    agents = site.router.agents['agents-b']
    # NOTE: not the migrating servers. Their hosts report one after the other, so that
    # the map correctly has only one of the two hosts for a moment.
    down = set(site.size.agents()['agents-b'])
    before = {server: hosts for server, hosts in site.hosts_of.items() if down >= set(hosts)}
    agents.stop(number=signal.SIGKILL)
    timing.last(5, short=3)
    site.move({server: ['host-0'] for server in before})
    site.settle(before)
    site.start_agents(agents)
    site.settle(before)
    site.move(before)


@catalogue.fault('clocks', affects='agents-c resolver')
def clocks(site, timing):
    """An agent's clock 30 s ahead, and two more resolver workers 30 s behind, for 20 s."""
    agents = site.router.agents['agents-c']
    with contextlib.ExitStack() as undo:
        agents.stop()
        agents.environment = clock.shifted(+30)
        undo.callback(site.start_agents, agents)
        undo.callback(setattr, agents, 'environment', None)
        undo.callback(agents.stop)
        site.start_agents(agents)
        late = site.router.start_resolver('resolver-late', environment=clock.shifted(-30))
        undo.callback(late.stop)
        timing.last(20, short=5)


def _kill_busy(site, workers, number):
    """Kill workers while batches are in progress, and wait until there are as many again.

    :param workers: returns the pids of the workers
    :param number: how many to kill; None: all
    """
    there = len(site.book.answered())
    with site.busy():
        deployment.wait_until(lambda: len(site.book.answered()) > there + BUSY, 'batches under way')
        before = workers()
        killed = set(before[:number])
        for pid in killed:
            services.kill(pid)
    deployment.wait_until(
        lambda: len(workers()) == len(before) and not killed & set(workers()), 'as many workers as before'
    )
