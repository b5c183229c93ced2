"""A piece of network between some processes and the broker, that can go silent.

Run as a process of its own::

    python -m tests.faults.proxy PORT BROKER_PORT

It hands on what comes, in both directions, and listens only while the broker
does, so that who connects is refused as without it. Stopped by ``SIGSTOP`` it is
a network that drops every packet: connections stand, new ones are begun, and
nothing comes through; what was sent meanwhile arrives when it goes on, as it
does with TCP.
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

#: Bytes handed on at once.
CHUNK = 64 * 1024

#: Seconds between two looks whether the broker listens (again).
INTERVAL = 0.1

#: Closes with a reset, as the broker's machine does for a process that is gone.
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
