"""Faults during a migration: a server is on two hosts, and one of them does not respond.

So it is when a server is moved away from a failing host. The living host must
get its events at once, as for any other server; only the part of the
unresponsive host waits, and each host gets the events of a server in their order,
however the migration ends.
"""

from __future__ import annotations

from concurrent import futures
import contextlib
import os
import signal
import statistics
import time
import uuid

from tests.faults import catalogue
from tests.faults import site as sites
from tests.integration import deployment

#: Seconds after the first at which an event of each server is posted.
POSTED = (0.0, 1.5, 3.0, 4.6, 6.1)

#: Servers of each of the ways in which a migration ends.
SERVERS = 2

#: How much later than those of other servers half of the events may be handled.
SLOWER, SLOWER_SECONDS = 1.5, 0.1

#: Seconds within which every event is handled on the living host.
LATEST = 1.0

#: Seconds after the last event in which the living host handles it, or never.
GIVEN_UP = 6.0


@catalogue.fault('migration-host-frozen', affects='agents-a agents-b', in_short=True)
def frozen(site, timing):
    """Servers migrate from a host whose agent process is frozen to a living host."""
    pid = site.router.agents['agents-a'].pid
    with _migrating(site) as servers:
        os.kill(pid, signal.SIGSTOP)
        try:
            _measure(site, timing, servers)
        finally:
            os.kill(pid, signal.SIGCONT)


@catalogue.fault('migration-host-killed', affects='agents-a agents-b')
def killed(site, timing):
    """Servers migrate from a host whose agent process was killed, its queue remains, to a living host."""
    agents = site.router.agents['agents-a']
    with _migrating(site) as servers:
        agents.stop(number=signal.SIGKILL)
        try:
            _measure(site, timing, servers)
        finally:
            site.start_agents(agents)


@contextlib.contextmanager
def _migrating(site):
    """With new servers, some on two hosts and others on the living one alone.

    :returns: way in which a server's migration ends to such servers
    """
    agents = site.size.agents()
    failing, living = agents['agents-a'][0], agents['agents-b'][0]
    ways = {
        'the host returns': [living, failing],
        'it ends on the living host': [living, failing],
        'it ends on the failing host': [living, failing],
        'other servers': [living],
    }
    servers = {way: [str(uuid.uuid4()) for _ in range(SERVERS)] for way in ways}
    hosts_of = {server: ways[way] for way, own in servers.items() for server in own}
    site.move(hosts_of)
    _wait_for_reports(site, hosts_of)
    yield servers
    site.settle(hosts_of)


def _wait_for_reports(site, hosts_of):
    """Wait until an event of each server is at all of its hosts, as these have reported it."""
    poster = site.poster()

    def arrived():
        answered = poster.post(list(hosts_of))
        return all(each.code == 200 and each.took < LATEST for each in answered)

    deployment.wait_until(arrived, 'servers on two hosts')


def _measure(site, timing, servers):
    """Post, compare, and end the migrations in each way."""
    # NOTE: the steady load has opened the circuit breaker of the failing host by then.
    timing.last(5, short=3)
    failing, living = (site.size.agents()[name][0] for name in ('agents-a', 'agents-b'))
    everyone = [server for own in servers.values() for server in own]
    with futures.ThreadPoolExecutor(len(everyone)) as pool:
        answered = dict(zip(everyone, pool.map(lambda server: _post(site, server), everyone), strict=True))
    tags = {each.tag for own in answered.values() for each in own}
    sites.waited(
        lambda: tags <= {each.tag for each in site.book.handled() if each.host == living},
        until=time.monotonic() + GIVEN_UP,
    )
    site.move({server: [living] for server in servers['it ends on the living host']})
    site.move({server: [failing] for server in servers['it ends on the failing host']})
    others = [_after(site, answered[server], living) for server in servers.pop('other servers')]
    migrating = [_after(site, answered[server], living) for own in servers.values() for server in own]
    _compare(site, migrating, others)


def _post(site, server):
    """Post an event of a server at each of the instants.

    :returns: the answer for each
    """
    poster, began, answered = site.poster(), time.monotonic(), []
    for after in POSTED:
        time.sleep(max(0.0, began + after - time.monotonic()))
        answered += poster.post([server])
    return answered


def _after(site, answered, host):
    """Seconds from the post of each event until the host handled it; infinite: it has not."""
    at = {each.tag: each.at for each in site.book.handled() if each.host == host}
    return [at.get(each.tag, float('inf')) - each.sent for each in answered]


def _compare(site, migrating, others):
    medians = {}
    for name, seconds in (('on two hosts', migrating), ('other servers', others)):
        every = sorted(second for own in seconds for second in own)
        medians[name] = statistics.median(every)
        site.notes.append(
            f'{name}, on the living host after: p50 {medians[name]:.3f} s, longest {every[-1]:.3f} s; '
            f'one of them: {", ".join(f"{second:.1f}" for second in seconds[0])} s'
        )
        if name == 'on two hosts' and every[-1] > LATEST:
            site.problems.append(
                f'an event was handled after {every[-1]:.3f} s, at most {LATEST} s are allowed'
            )
    if medians['on two hosts'] > medians['other servers'] * SLOWER + SLOWER_SECONDS:
        site.problems.append('servers on two hosts were slower than others on the living host')
