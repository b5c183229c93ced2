"""What strangers do to an HTTP port: one function each, over plain sockets.

Each is a row of :data:`ATTACKS`, and a command, so that its work is not done in
the process that measures what it does to others::

    python -m tests.integration.attacks silent 8790 --connections 1000 --seconds 5

It prints, as JSON, what was sent and how its connections ended.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import time
import zlib

PATH = '/v2.1/os-server-external-events'
SERVER = '00000001-0000-4000-8000-000000000000'

MIB = 1024 * 1024

#: Seconds between two bytes of a slow sender.
SLOW_BYTES = 0.25

#: Bytes that are sent at a time.
CHUNK = 64 * 1024

#: Seconds by which an attack is prolonged until the service has ended a connection,
#: where it is short and the machine busy.
PATIENCE = 60.0


@dataclasses.dataclass
class Attack:
    """An attack.

    :ivar text: in words, for the table
    :ivar act: a coroutine function of a :class:`Run`, a connection and its number
    :ivar ends: allowed ends of its connections, except for connections that are open when the attack ends;
        none: any way, or not at all in the time
    :ivar short: connections, and seconds that they last, in the tests; more where the
        service has ended none of them by then
    :ivar full: the same in the long form
    """

    text: str
    act: object
    ends: frozenset[str]
    short: tuple[int, float]
    full: tuple[int, float]


ATTACKS: dict[str, Attack] = {}


def attack(name, *, ends, short, full):
    """Register a coroutine function as an attack; its docstring describes it."""

    def register(act):
        ATTACKS[name] = Attack(
            act.__doc__.splitlines()[0].rstrip('.'), act, frozenset(ends.split()), short, full
        )
        return act

    return register


class Run:
    """The connections of one attack, and their ends.

    :ivar ends: how often a connection ended how
    """

    def __init__(self, port, connections, seconds):
        self.port, self.connections = port, connections
        self.seconds = seconds
        self.sent = self.opened = self.requests = 0
        self.ends = collections.Counter()
        self.longest = 0.0
        self.over = asyncio.Event()

    async def all(self, attack):
        """Have as many at a time as there are connections, each again when it has ended."""
        acting = asyncio.gather(*(self._one(attack.act, number) for number in range(self.connections)))
        await self._wait(self.over.wait(), self.seconds)
        if attack.ends and not self.ends:
            await self._wait(self._first_end(), PATIENCE)
        self.over.set()
        acting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await acting

    async def _wait(self, awaited, seconds):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(awaited, seconds)

    async def _first_end(self):
        while not self.ends:
            await asyncio.sleep(0.05)

    async def _one(self, act, number):
        # NOTE: not all in the same instant: the kernel would make most of them wait.
        await asyncio.sleep(number * 0.0005)
        while not self.over.is_set():
            began = time.monotonic()
            try:
                end = await self._connected(act, number)
            except asyncio.CancelledError:
                end = 'open at the end'
            except (OSError, asyncio.IncompleteReadError):
                end = 'cut'
            self.ends[end] += 1
            self.longest = max(self.longest, time.monotonic() - began)
            await asyncio.sleep(0.01)

    async def _connected(self, act, number):
        reader, writer = await asyncio.open_connection('127.0.0.1', self.port)
        self.opened += 1
        try:
            return await act(self, Connection(self, reader, writer), number)
        finally:
            writer.transport.abort()

    def report(self):
        """As a document."""
        return {
            'opened': self.opened,
            'requests': self.requests,
            'bytes': self.sent,
            'ends': dict(self.ends),
            'longest': round(self.longest, 2),
        }


class Connection:
    """Counts what goes over it."""

    def __init__(self, run, reader, writer):
        self.run, self.reader, self.writer = run, reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()
        self.run.sent += len(data)

    async def end(self):
        """How the server ends it: with a status, or without a word."""
        line = await self.reader.readline()
        return line.split()[1].decode() if line.startswith(b'HTTP/') else 'cut'

    async def drip(self, data):
        """Send byte by byte, slowly, until the server has had enough.

        :returns: how it ended
        """
        ended = asyncio.ensure_future(self.end())
        try:
            for byte in data:
                done, _ = await asyncio.wait([ended], timeout=SLOW_BYTES)
                if done:
                    return ended.result()
                await self.send(bytes([byte]))
            return await ended
        finally:
            ended.cancel()

    async def answers(self, data):
        """Send all data even if the server does not read it; return the received data."""
        ended = asyncio.ensure_future(self.end())
        try:
            for begin in range(0, len(data), CHUNK):
                if ended.done():
                    break
                await self.send(data[begin : begin + CHUNK])
            return await ended
        finally:
            ended.cancel()


def head(*more, method='POST', path=PATH, version='1.1'):
    """The head of a request, without the empty line that ends it if ``...`` comes last."""
    lines = [f'{method} {path} HTTP/{version}', 'Host: attacked', 'Content-Type: application/json']
    complete = more[-1:] != (...,)
    lines += [line for line in more if line is not ...]
    return '\r\n'.join([*lines, *(('', '') if complete else ('X-',))]).encode('latin-1')


def request(body, *more):
    """A whole request."""
    return head(f'Content-Length: {len(body)}', *more) + body


@attack('silent', ends='cut', short=(150, 3), full=(5000, 30))
async def silent(_run, connection, _number):
    """Connections that say nothing."""
    return await connection.end()


@attack('slow-headers', ends='cut', short=(40, 3), full=(2000, 30))
async def slow_headers(_run, connection, _number):
    """Headers that trickle in."""
    await connection.send(head(...))
    return await connection.drip(b'a' * 10_000)


@attack('slow-bodies', ends='400 cut', short=(30, 3), full=(400, 45))
async def slow_bodies(run, connection, _number):
    """Bodies that trickle in, fewer than there are connections but more than threads."""
    await connection.send(head('Content-Length: 10000'))
    run.requests += 1
    return await connection.drip(b' ' * 10_000)


@attack('slow-bodies-many', ends='400 cut', short=(150, 3), full=(3000, 45))
async def slow_bodies_many(run, connection, number):
    """The same, more than there may be connections."""
    return await slow_bodies(run, connection, number)


@attack('silent-bodies', ends='400 cut', short=(150, 3), full=(3000, 30))
async def silent_bodies(run, connection, _number):
    """Bodies of which nothing comes, more than there may be connections."""
    await connection.send(head('Content-Length: 10000', 'Expect: 100-continue'))
    run.requests += 1
    await connection.reader.readuntil(b'\r\n\r\n')
    return await connection.end()


@attack('held-bodies', ends='400 503 cut', short=(40, 3), full=(600, 45))
async def held_bodies(run, connection, _number):
    """Bodies of 1 MiB of which the last byte does not come."""
    run.requests += 1
    return await connection.answers(head(f'Content-Length: {MIB}') + b' ' * (MIB - 1))


@attack('unread-answers', ends='cut', short=(20, 3), full=(400, 45))
async def unread_answers(run, connection, _number):
    """Requests by the thousand whose answers are never read."""
    connection.writer.transport.pause_reading()
    one = head(method='GET', path='/v2.1/openapi.json')
    while True:
        await connection.send(one * 100)
        run.requests += 100


@attack('huge-length', ends='413 cut', short=(4, 1.5), full=(16, 20))
async def huge_length(run, connection, _number):
    """Content-Length: 10 GiB, and as much of it as is taken."""
    run.requests += 1
    await connection.send(head('Content-Length: 10737418240'))
    return await connection.answers(b'x' * (64 * MIB))


@attack('endless-chunks', ends='413 503 cut', short=(4, 1.5), full=(16, 20))
async def endless_chunks(run, connection, _number):
    """Chunks without end, and as many of them as are taken."""
    run.requests += 1
    await connection.send(head('Transfer-Encoding: chunked'))
    return await connection.answers((b'4000\r\n' + b'x' * 16384 + b'\r\n') * 4096)


@attack('tiny-chunks', ends='', short=(1, 1.5), full=(64, 20))
async def tiny_chunks(run, connection, _number):
    """Bodies in chunks of one byte."""
    run.requests += 1
    await connection.send(head('Transfer-Encoding: chunked'))
    return await connection.answers(b'1\r\n \r\n' * MIB)


@attack('nested', ends='400', short=(4, 1.5), full=(16, 20))
async def nested(run, connection, _number):
    """A body of 1 MiB of brackets."""
    run.requests += 1
    return await connection.answers(request(b'{"events": ' + b'[' * (MIB - 100)))


@attack('wide', ends='413', short=(4, 1.5), full=(32, 30))
async def wide(run, connection, _number):
    """A body of 1 MiB that is 350,000 objects."""
    run.requests += 1
    return await connection.answers(request(b'{"events": [' + b'{},' * 349_000 + b'{}]}'))


@attack('tiny-requests', ends='400 done', short=(8, 2), full=(16, 600))
async def tiny_requests(run, connection, _number):
    """A million requests of a line, pipelined."""
    one = head('Content-Length: 2') + b'{}'
    while run.requests < REQUESTS:
        run.requests += 50
        await connection.send(one * 50)
        for _ in range(50):
            answer = await connection.reader.readuntil(b'\r\n\r\n')
            length = int(answer.lower().split(b'content-length:')[1].split(b'\r\n')[0])
            await connection.reader.readexactly(length)
        run.ends[answer.split()[1].decode()] += 50
    run.over.set()
    return 'done'


@attack('gzip-bomb', ends='400', short=(4, 1.5), full=(16, 20))
async def gzip_bomb(run, connection, _number):
    """A compressed body of 1 MiB that would be 1 GiB."""
    run.requests += 1
    return await connection.answers(request(BOMB, 'Content-Encoding: gzip'))


@attack('huge-header', ends='431 cut', short=(8, 1.5), full=(64, 20))
async def huge_header(run, connection, _number):
    """A header of 16 MiB."""
    run.requests += 1
    await connection.send(head(...))
    return await connection.answers(b'a' * (16 * MIB))


@attack('held-headers', ends='cut', short=(40, 3), full=(900, 30))
async def held_headers(run, connection, _number):
    """Headers of 60 KiB of which the end does not come."""
    run.requests += 1
    return await connection.answers(head(...) + b'a: ' + b'a' * 60_000)


@attack('many-headers', ends='431 cut', short=(8, 1.5), full=(64, 20))
async def many_headers(run, connection, _number):
    """10,000 headers."""
    run.requests += 1
    return await connection.answers(head(*(f'X-{number}: a' for number in range(10_000))))


@attack('garbage', ends='400 414 431 cut', short=(8, 1.5), full=(64, 20))
async def garbage(run, connection, number):
    """Random bytes, a TLS greeting, an older protocol, half a line."""
    run.requests += 1
    rnd = random.Random(number)
    kinds = (
        rnd.randbytes(4096),
        bytes.fromhex('16030100c4010000c00303') + rnd.randbytes(186),
        b'GET /\r\n',
        b'\r\n' * 5000,
        b'POST ' + b'/' * 200_000 + b' HTTP/1.1\r\n',
        b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    )
    return await connection.answers(kinds[number % len(kinds)] + b'\r\n\r\n')


@attack('no-length', ends='400 cut', short=(4, 1.5), full=(16, 20))
async def no_length(run, connection, _number):
    """HTTP/1.0 without a length, and a body."""
    run.requests += 1
    return await connection.answers(head(version='1.0') + b'{"events": []}' * 1000)


@attack('short-bodies', ends='400 cut', short=(8, 1.5), full=(64, 20))
async def short_bodies(run, connection, _number):
    """Bodies shorter than their length, and then the end."""
    run.requests += 1
    await connection.send(head('Content-Length: 1000') + b'{"events": [')
    connection.writer.write_eof()
    return await connection.end()


REQUESTS = 1_000_000

_deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
#: A GiB of spaces, compressed; computed by the attack that uses it.
BOMB = b''


def make_bomb():
    """As much compressed emptiness as a body may have."""
    spaces = b' ' * MIB
    return b''.join(_deflate.compress(spaces) for _ in range(1024)) + _deflate.flush()


async def attacked(args):
    """Run an attack; its report."""
    run = Run(args.port, args.connections, args.seconds)
    await run.all(ATTACKS[args.name])
    return run.report()


def main():
    """Run one attack."""
    global BOMB
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('name', choices=ATTACKS)
    parser.add_argument('port', type=int)
    parser.add_argument('--connections', type=int, required=True)
    parser.add_argument('--seconds', type=float, required=True)
    args = parser.parse_args()
    if args.name == 'gzip-bomb':
        BOMB = make_bomb()
    print(json.dumps(asyncio.run(attacked(args))))


if __name__ == '__main__':
    main()
