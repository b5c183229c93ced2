"""The example of ``--demo``: hosts, servers, and a batch with an event for each kind of outcome."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import json
import time
from typing import Any
import urllib.request

from oslo_config import cfg
import prettytable

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.cmd.manage import explain as manage_explain
from external_events_router.journal import completeness
from external_events_router.journal import explain as explaining
from external_events_router.journal import next_steps
from external_events_router.journal import queries
from external_events_router.journal import reads
from external_events_router.journal import recorder
from external_events_router.journal import records
from external_events_router.journal import timeline

#: Hosts with a running agent. ``host-silent`` is also in the host map, but has no agent.
HOSTS = ('host-a', 'host-b')

UNKNOWN_PORT = 'port-unknown-to-the-host'

#: Maximum seconds for the example batch; one of its hosts never responds.
POST_TIMEOUT = 30


#: Seconds until the events of the batch are in the journal.
JOURNAL_TIMEOUT = 10.0

#: Microseconds before now whose events are explained.
PERIOD = 60 * records.SECOND


def _server(number: int) -> str:
    return f'{number:08x}-0000-4000-8000-000000000000'


ON_A, MIGRATING, ON_NO_HOST, ON_SILENT, UNKNOWN = (_server(number) for number in range(1, 6))

#: The servers whose events the demo explains in the end.
EXPLAINED = (MIGRATING, ON_SILENT)

HOSTS_OF = {
    ON_A: ['host-a'],
    MIGRATING: ['host-a', 'host-b'],
    ON_NO_HOST: [],
    ON_SILENT: ['host-silent'],
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """An event to post, its expected code, and the reason for the code."""

    name: str
    server: str
    tag: str | None
    code: int
    why: str

    def to_json(self) -> dict[str, str]:
        """Return the event as it appears in a request."""
        event = {'name': self.name, 'server_uuid': self.server}
        return event if self.tag is None else {**event, 'tag': self.tag}


SAMPLES = (
    Sample('network-vif-plugged', ON_A, 'port-1', 200, 'host-a acknowledged the event'),
    Sample('network-changed', MIGRATING, None, 200, 'migrating: host-a and host-b acknowledged the event'),
    Sample('volume-extended', ON_A, None, 400, 'the tag (the volume id) is missing'),
    Sample('network-changed', UNKNOWN, None, 404, 'the server is unknown'),
    Sample('network-vif-plugged', ON_NO_HOST, 'port-2', 422, 'the server has no host'),
    Sample('network-vif-plugged', ON_A, UNKNOWN_PORT, 500, 'the handler on host-a refused the event'),
    Sample('network-vif-unplugged', ON_SILENT, 'port-3', 200, 'held until host-silent responds'),
)


def host_map_lines() -> Iterator[bytes]:
    """Return the example servers as lines of a host map file."""
    for server, hosts in HOSTS_OF.items():
        yield json.dumps({'server': server, 'hosts': hosts}).encode()


def refuse_the_unknown_port(ctxt: context.RequestContext, event: events.Event) -> None:
    """Refuse events for one port that the host does not know; this is an event handler.

    :raises Refused: the tag is this port
    """
    if event.tag == UNKNOWN_PORT:
        raise exceptions.Refused(reason='no such port on this host')


def announce(url: str, *, ack_timeout: float) -> None:
    """Print what the demo does, how long it takes, and how to end it.

    :param ack_timeout: ``[delivery] ack_timeout``, for which the batch waits for the silent host
    """
    print(
        f'Demo of the API at {url}: posts {len(SAMPLES)} events in a batch, waits {ack_timeout:.0f} s for a '
        f'host that does not respond, and explains the events of {len(EXPLAINED)} servers. This takes about '
        f'{ack_timeout + JOURNAL_TIMEOUT / 2:.0f} s. Ctrl-C ends the demo at any time.\n',
        flush=True,
    )


def show(url: str) -> bool:
    """Post the example batch, print its outcomes, and print a command that posts another event.

    :param url: address of the API
    :returns: whether every outcome was as expected
    """
    endpoint = f'{url}/v2.1/os-server-external-events'
    answered = _post(endpoint, [sample.to_json() for sample in SAMPLES])
    table = prettytable.PrettyTable(['Event', 'Server', 'Tag', 'Hosts', 'Code', 'Status', 'Reason'])
    table.align = 'l'
    as_expected = True
    for sample, outcome in zip(SAMPLES, answered, strict=True):
        expected = outcome['code'] == sample.code
        as_expected = as_expected and expected
        table.add_row(
            [
                sample.name,
                sample.server[:8],
                sample.tag or '',
                ', '.join(HOSTS_OF.get(sample.server, ())),
                outcome['code'],
                outcome['status'],
                sample.why if expected else f'UNEXPECTED CODE, expected {sample.code}: {sample.why}',
            ]
        )
    print(table)
    print(f'\nTo post another event, run:\n\n{_curl(endpoint)}\n', flush=True)
    return as_expected


def explain(conf: cfg.ConfigOpts) -> bool:
    """Print what ``external-events-manage explain`` answers about two of the servers.

    :returns: whether the journal contained their events in time
    """
    with contextlib.closing(recorder.open_database(conf)) as database:
        reader = reads.Reader(database)
        for server in EXPLAINED:
            history = _written(reader, functools.partial(completeness.gaps, database), server)
            print(f'$ external-events-manage explain {server}\n')
            print(manage_explain.rendered(explaining.explain(history, next_steps.Site())), flush=True)
            if not history.events:
                return False
    return True


def _written(reader: reads.Reader, gaps: queries.Gaps, server: str) -> timeline.History:
    """Wait for the records of a server, and return them."""
    deadline = time.monotonic() + JOURNAL_TIMEOUT
    while True:
        now = reader.now()
        history = queries.history(reader, gaps, queries.Question(server, now - PERIOD, now))
        if history.events or time.monotonic() > deadline:
            return history
        time.sleep(0.1)


def _headers() -> dict[str, str]:
    version = '.'.join(map(str, events.MAX_MICROVERSION))
    return {'Content-Type': 'application/json', 'OpenStack-API-Version': f'compute {version}'}


def _post(endpoint: str, batch: list[dict[str, str]]) -> list[dict[str, Any]]:
    request = urllib.request.Request(  # noqa: S310 - the API of this process, over HTTP
        endpoint, data=json.dumps({'events': batch}).encode(), headers=_headers()
    )
    with urllib.request.urlopen(request, timeout=POST_TIMEOUT) as response:  # noqa: S310
        answered: list[dict[str, Any]] = json.load(response)['events']
    return answered


def _curl(endpoint: str) -> str:
    headers = ' '.join(f"-H '{name}: {value}'" for name, value in _headers().items())
    body = json.dumps({'events': [SAMPLES[0].to_json()]})
    return f"  curl -s {endpoint} {headers} -d '{body}'"
