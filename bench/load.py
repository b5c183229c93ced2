"""Closed-loop load: each connection posts its next batch when it has the answer to the last.

The load uses one thread and no library, because it shares the machine with the measured
service. It uses most of its time to read and check the answers.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import gc
import random
import select
import socket
import time
import urllib.parse

from bench import answers
from bench import http

#: Seconds after which an answer is ignored.
TIMEOUT = 60.0

#: Headers that the clients of Neutron and Cinder send.
MICROVERSION = 'X-OpenStack-Nova-API-Version: 2.1'

_RECEIVE = 256 * 1024


@dataclasses.dataclass(frozen=True)
class Stream:
    """Connections that post in the same way.

    :ivar events: events that they post, cyclically from a random start
    :ivar limit: maximum number of batches of all connections; None: until the time is over
    """

    concurrency: int
    batch: int
    events: Sequence[answers.Posted]
    limit: int | None = None


@dataclasses.dataclass
class Progress:
    """The results of a stream.

    :ivar latencies: seconds from the first byte sent to the last one received
    :ivar seconds: from the first request to the last answer
    :ivar events: number of events in correct answers
    :ivar problems: wrong answers, and requests without an answer
    """

    batches: int = 0
    events: int = 0
    seconds: float = 0.0
    latencies: list[float] = dataclasses.field(default_factory=list)
    codes: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    problems: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def run(url, streams, *, seconds, headers=()):
    """Post until the time is over, and wait for the last answers.

    :param url: URL of the resource
    :param streams: streams that run at the same time
    :param headers: additional header lines
    :returns: a tally for each stream
    """
    # NOTE: without a seed, because a repeated request id means a repeated request.
    rnd = random.Random()
    poller = select.epoll()
    tallies = [Progress() for _ in streams]
    connections = {}
    for stream, progress in zip(streams, tallies, strict=True):
        turns = _Turns(stream, rnd)
        for _ in range(stream.concurrency):
            connection = _Connection(url, turns, progress, poller, headers, rnd)
            connections[connection.fileno] = connection
    # NOTE: a garbage collection of the caller's objects would be measured as a latency.
    gc.collect()
    gc.disable()
    try:
        _drive(poller, connections, until=time.perf_counter() + seconds)
    finally:
        gc.enable()
        poller.close()
    return tallies


def _drive(poller, connections, *, until):
    began = time.perf_counter()
    busy = {connection for connection in connections.values() if connection.post(until)}
    while busy:
        for fileno, _ in poller.poll(1.0):
            connection = connections.pop(fileno)
            if connection.proceed(began) and not connection.post(until):
                busy.discard(connection)
                connection.close()
            # The same socket, unless the connection was replaced.
            connections[connection.fileno] = connection
        late = time.perf_counter() - TIMEOUT
        for connection in [each for each in busy if each.began < late]:
            connection.fail('no answer')
            connections[connection.fileno] = connection
            if not connection.post(until):
                busy.discard(connection)
                connection.close()


class _Turns:
    """The next events of one stream."""

    def __init__(self, stream, rnd):
        self._stream = stream
        # Every batch is a slice of this list, also at its end.
        self._events = [*stream.events, *stream.events[: stream.batch]]
        self._at = rnd.randrange(len(stream.events))
        self._left = stream.limit

    def next(self):
        """The next batch; None: the limit is reached."""
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        at, batch = self._at, self._stream.batch
        self._at = (at + batch) % len(self._stream.events)
        chosen = self._events[at : at + batch]
        # A batch may be larger than the number of events.
        while len(chosen) < batch:
            chosen += self._events[: batch - len(chosen)]
        return chosen


class _Connection:
    """One connection, with at most one request in progress."""

    def __init__(self, url, turns, progress, poller, headers, rnd):
        where = urllib.parse.urlsplit(url)
        self._address = (where.hostname, where.port or 80)
        lines = [f'POST {where.path} HTTP/1.1', f'Host: {where.netloc}', 'Content-Type: application/json']
        self._head = '\r\n'.join([*lines, MICROVERSION, *headers, answers.REQUEST_ID]).encode() + b': req-'
        self._turns, self._tally, self._poller = turns, progress, poller
        # Distinguishes the requests of this run from the requests of other runs.
        self._prefix, self._number = f'{rnd.getrandbits(64):016x}', rnd.getrandbits(48)
        self.began = 0.0
        self._batch = self._unsent = None
        self._connect()

    def _connect(self):
        self._socket = socket.create_connection(self._address, timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._reader = http.Reader()
        self._unsent = None
        self.fileno = self._socket.fileno()
        self._poller.register(self.fileno, select.EPOLLIN)

    def close(self):
        """Have no connection."""
        self._poller.unregister(self.fileno)
        self._socket.close()

    def post(self, until):
        """Post the next batch.

        :returns: whether there was a batch, and time to post it
        """
        self.began = time.perf_counter()
        self._batch = self._turns.next() if self.began < until else None
        if self._batch is None:
            return False
        self._number = (self._number + 1) & 0xFFFFFFFFFFFF
        text, prefix = answers.body(self._batch), self._prefix
        request_id = f'{prefix[:8]}-{prefix[8:12]}-4{prefix[13:]}-8000-{self._number:012x}'.encode()
        length = b'\r\nContent-Length: %d\r\n\r\n' % len(text)
        self._send(self._head + request_id + length + text)
        return True

    def proceed(self, since):
        """Send or receive the available data.

        :param since: instant of the beginning of the run
        :returns: whether the request has ended
        """
        if self._unsent:
            self._send(self._unsent)
        try:
            data = self._socket.recv(_RECEIVE)
            answer = self._reader.feed(data) if data else None
        except BlockingIOError:
            return False
        except (OSError, http.Broken) as exc:
            self.fail(type(exc).__name__)
            return True
        if answer is None:
            if not data:
                self.fail('connection closed')
            return not data
        self._note(*answer, since)
        if self._reader.closes:
            self.close()
            self._connect()
        return True

    def fail(self, problem):
        """Abandon the request, and open a new connection."""
        self._tally.problems[problem] += 1
        self.close()
        self._connect()

    def _note(self, status, text, since):
        now = time.perf_counter()
        checked = answers.check(status, text, self._batch)
        progress = self._tally
        progress.latencies.append(now - self.began)
        progress.seconds = now - since
        progress.batches += 1
        progress.codes.update(checked.codes)
        if checked.problem is None:
            progress.events += len(self._batch)
        else:
            progress.problems[checked.problem] += 1

    def _send(self, data):
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The error is reported when the socket is read.
            sent = len(data)
        was, self._unsent = self._unsent, data[sent:]
        if bool(was) != bool(self._unsent):
            events = select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0)
            self._poller.modify(self.fileno, events)
