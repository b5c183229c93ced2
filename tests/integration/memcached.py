"""A memcached: the installed one, or else as much of its protocol as keystonemiddleware speaks."""

from __future__ import annotations

import getpass
import shutil
import socketserver
import threading

import fixtures

from tests.integration import deployment
from tests.integration import services


class Memcached(fixtures.Fixture):
    """Listens on a port of its own.

    :ivar address: for ``[keystone_authtoken] memcached_servers``
    """

    def _setUp(self):
        port = deployment.free_port()
        self.address = f'127.0.0.1:{port}'
        program = shutil.which('memcached')
        if program is None:
            self._server = self.useFixture(_Server(port))
        else:
            folder = self.useFixture(services.Folder()).path
            command = [program, '-l', '127.0.0.1', '-p', port, '-U', '0', '-u', getpass.getuser()]
            self._server = self.useFixture(deployment.Process('memcached', command, folder))
        deployment.wait_until(lambda: deployment.listens(port), 'memcached')

    def stop(self):
        """Stop listening, and close all connections."""
        self._server.stop()


class _Server(fixtures.Fixture):
    """A server in this process, without a limit for the size of its content."""

    def __init__(self, port):
        self._port = port

    def _setUp(self):
        self._server = socketserver.ThreadingTCPServer(('127.0.0.1', self._port), _Connection)
        self._server.daemon_threads = True
        self._server.kept = {}
        self._server.stopped = threading.Event()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.addCleanup(self.stop)

    def stop(self):
        if not self._server.stopped.is_set():
            self._server.stopped.set()
            self._server.shutdown()
            self._server.server_close()


class _Connection(socketserver.StreamRequestHandler):
    def handle(self):
        while (line := self.rfile.readline().decode()) and not self.server.stopped.is_set():
            self.wfile.write(self._answer(*line.split()))

    def _answer(self, command, *words):
        kept = self.server.kept
        match command, words:
            case 'set', (key, flags, _time, length):
                kept[key] = flags, self.rfile.read(int(length) + len('\r\n'))
                return b'STORED\r\n'
            case 'get', keys:
                found = [(key, *kept[key]) for key in keys if key in kept]
                lines = [
                    f'VALUE {key} {flags} {len(value) - len("xx")}\r\n'.encode() + value
                    for key, flags, value in found
                ]
                return b''.join(lines) + b'END\r\n'
            case _:
                return b'ERROR\r\n'
