"""A network link between some processes and the broker, which can stop all traffic.

Run as a process of its own::

    python -m tests.faults.proxy PORT BROKER_PORT

It forwards all data in both directions. It listens only while the broker
listens, so that a connection is refused as without the proxy. Stopped by ``SIGSTOP`` it is
like a network that drops every packet: connections stay open, new connections begin, and
no data arrives. Data that was sent meanwhile arrives when the process continues, as
with TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys

from tests.integration import deployment

#: Bytes forwarded at once.
CHUNK = 64 * 1024

#: Seconds between two checks whether the broker listens again.
INTERVAL = 0.1

#: Closes with a reset, like the broker's machine after the end of a process.
RESET = struct.pack('ii', 1, 0)


class Proxy(deployment.Process):
    """The process."""

    def __init__(self, name, broker_port, folder):
        self.port = deployment.free_port()
        command = [sys.executable, '-m', 'tests.faults.proxy', self.port, broker_port]
        super().__init__(name, command, folder)

    def _setUp(self):
        super()._setUp()
        self.wait_for('listening\n')

    @contextlib.contextmanager
    def silent(self):
        """Let nothing through."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


async def main(port, broker_port):
    """Listen while the broker does."""
    gone = asyncio.Event()

    async def serve(reader, writer):
        try:
            broker_reader, broker_writer = await asyncio.open_connection('127.0.0.1', broker_port)
        except OSError:
            gone.set()
            _reset(writer)
            return
        await asyncio.gather(_pump(reader, broker_writer), _pump(broker_reader, writer))

    while True:
        await _broker(broker_port)
        gone.clear()
        server = await asyncio.start_server(serve, '127.0.0.1', port, reuse_address=True)
        print('listening\n', end='', flush=True)
        await gone.wait()
        server.close()


async def _broker(port):
    """Wait until it listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection('127.0.0.1', port)
        except OSError:
            await asyncio.sleep(INTERVAL)
        else:
            writer.close()
            return


async def _pump(reader, writer):
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        _reset(writer)
    finally:
        writer.close()


def _reset(writer):
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()


if __name__ == '__main__':
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
