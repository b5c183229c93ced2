"""The example of ``--demo``: hosts, servers, and a batch with an event for each kind of outcome."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import json
from typing import Any
import urllib.request

import prettytable

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions

#: Hosts with a running agent. ``host-silent`` is also in the host map, but has no agent.
HOSTS = ('host-a', 'host-b')

UNKNOWN_PORT = 'port-unknown-to-the-host'

#: Maximum seconds for the example batch; one of its hosts never responds.
POST_TIMEOUT = 30


def _server(number: int) -> str:
    return f'{number:08x}-0000-4000-8000-000000000000'


ON_A, MIGRATING, ON_NO_HOST, ON_SILENT, UNKNOWN = (_server(number) for number in range(1, 6))

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
