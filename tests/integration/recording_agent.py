"""Agents that write down every event they handle, a JSON line each: the ledger of the tests.

Run as a process of its own::

    python -m tests.integration.recording_agent CONFIG_FILE LEDGER HOST...

A line is ``{"host", "id", "server_uuid", "name", "tag", "status", "request_id",
"incarnation", "at"}``: ``incarnation`` names the life of this process, ``at`` is an
instant of the machine's monotonic clock. The file is appended to in one write per
event, so that several processes may share it and a killed one leaves no half line
behind another's.
"""

from __future__ import annotations

from concurrent import futures
import json
import os
import sys
import time

from external_events_router import rpc
from external_events_router.agent import Agent
from external_events_router.agent import Handlers
from external_events_router.agent import Shared
from external_events_router.cmd import signals
from external_events_router.cmd import startup

#: Agents that are started at the same time.
STARTERS = 32


def main(config_file, ledger, *hosts):
    conf = startup.load('recording-agent', ['--config-file', config_file])
    came = signals.catch()
    book = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    transport = rpc.get_transport(conf)
    shared = Shared.from_conf(conf, transport)
    agents = [
        Agent.from_conf(conf, transport, host, handlers=_recorder(host, book), shared=shared)
        for host in hosts
    ]
    shared.start()
    # NOTE: each waits until the broker sends; together they wait once.
    with futures.ThreadPoolExecutor(STARTERS) as starters:
        list(starters.map(Agent.start, agents))
    # NOTE: in one write, also where the output is not buffered: the log goes there, too.
    print('ready\n', end='', flush=True)
    came.get()
    with futures.ThreadPoolExecutor(len(agents)) as stoppers:
        list(stoppers.map(Agent.stop, agents))
    shared.stop(10.0)


def _recorder(host, book):
    handlers = Handlers()
    # NOTE: not the pid alone, which a later process may have again.
    incarnation = f'{os.getpid()}.{time.monotonic_ns()}'

    @handlers.on('*')
    def record(ctxt, event):
        line = {
            'host': host,
            'request_id': ctxt.global_request_id or ctxt.request_id,
            'incarnation': incarnation,
            'at': time.monotonic(),
            **event.to_dict(),
        }
        os.write(book, json.dumps(line).encode() + b'\n')

    return handlers


if __name__ == '__main__':
    main(*sys.argv[1:])
