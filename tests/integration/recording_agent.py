"""Agents that write down every event they handle, a JSON line each: the ledger of the tests.

Run as a process of its own::

    python -m tests.integration.recording_agent CONFIG_FILE LEDGER HOST...

A line is ``{"host", "id", "server_uuid", "name", "tag", "status", "request_id",
"incarnation", "at"}``: ``incarnation`` names the life of this process, ``at`` is an
instant of the machine's monotonic clock. The file is appended to in one write per
event, so that several processes may share it and a killed one leaves no half line
behind another's.

With ``EER_TEST_SLOW_ACKS=7:3`` in the environment every 7th delivery is acknowledged
3 s late, though it is handled at once.
"""

from __future__ import annotations

from concurrent import futures
import functools
import itertools
import json
import os
import queue
import sys
import threading
import time

from external_events_router.agent import Agent
from external_events_router.agent import AgentRuntime
from external_events_router.agent import Handlers
from external_events_router.messaging import rpc
from external_events_router.process import signals
from external_events_router.process import startup

#: Agents that are started at the same time.
STARTERS = 32


def main(config_file, ledger, *hosts):
    conf = startup.load('recording-agent', ['--config-file', config_file])
    came = signals.catch()
    book = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    transport = rpc.get_transport(conf)
    runtime = AgentRuntime.from_conf(conf, transport)
    if slow := os.environ.get('EER_TEST_SLOW_ACKS'):
        every, _, seconds = slow.partition(':')
        runtime.acker = SlowAcker(runtime.acker, every=int(every), seconds=float(seconds))
    agents = [
        Agent.from_conf(conf, transport, host, handlers=_recorder(host, book), shared=runtime)
        for host in hosts
    ]
    runtime.start()
    # NOTE: each waits until the broker sends; together they wait once.
    with futures.ThreadPoolExecutor(STARTERS) as starters:
        list(starters.map(Agent.start, agents))
    # NOTE: in one write, also where the output is not buffered: the log goes there, too.
    print('ready\n', end='', flush=True)
    came.get()
    with futures.ThreadPoolExecutor(len(agents)) as stoppers:
        list(stoppers.map(Agent.stop, agents))
    runtime.stop(10.0)


class SlowAcker:
    """Passes the results of some deliveries on late."""

    def __init__(self, acker, *, every, seconds):
        """:param every: each delivery of this number is late"""
        self._acker = acker
        self._every = every
        self._seconds = seconds
        self._numbers = itertools.count(1)
        # NOTE: all events of a delivery are late, or none.
        self._is_late = functools.lru_cache(maxsize=10_000)(self._next_is_late)
        self._late = queue.SimpleQueue()
        threading.Thread(target=self._send_late, daemon=True).start()

    def add(self, receipt, results):
        """See ``agent.acker.Acker``."""
        if self._is_late(receipt.delivery_id):
            self._late.put((time.monotonic() + self._seconds, receipt, results))
        else:
            self._acker.add(receipt, results)

    def flush(self, timeout):
        """See ``agent.acker.Acker``."""
        return self._acker.flush(timeout)

    def stop(self, timeout):
        """See ``agent.acker.Acker``."""
        self._acker.stop(timeout)

    def _next_is_late(self, delivery_id):
        return next(self._numbers) % self._every == 0

    def _send_late(self):
        while True:
            due, receipt, results = self._late.get()
            time.sleep(max(0.0, due - time.monotonic()))
            self._acker.add(receipt, results)


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
