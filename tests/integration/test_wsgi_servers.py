"""The application under uWSGI and gunicorn, as real processes. No broker and no database server."""

from __future__ import annotations

import os
import socket

from tests import base
from tests.integration import deployment
from tests.integration import services

INI = deployment.ROOT / 'etc' / 'external-events-router' / 'api-uwsgi.ini'

SERVER = '00000001-0000-4000-8000-000000000000'
BODY = f'{{"events": [{{"name": "network-changed", "server_uuid": "{SERVER}"}}]}}'.encode()

#: Logged by a resolver in the process when redelivery has started.
READY = 'is ready'

WORKERS = 2


class ServerTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def serve(self, name, *arguments):
        """Start a server, and wait until each worker has its resolver: before any request."""
        command = deployment.BIN / name
        if not command.exists():
            services.missing(name, f'{command} is not installed (extra "test")')
        self.router = self.useFixture(
            Prepared(
                transport_url='fake://',
                connection=f'sqlite:///{self.useFixture(services.Folder()).path}/router.sqlite',
                hosts=(),
                hosts_of={},
                api__none_found_status=207,
            )
        )
        environment = {
            **os.environ,
            'OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES': str(self.router.config),
            'PYTHONPATH': str(deployment.ROOT),
        }
        process = deployment.Process(
            name,
            [command, *(str(argument).format(port=self.router.port) for argument in arguments)],
            self.router.folder,
            environment=environment,
        )
        self.useFixture(process)
        process.wait_for(READY, times=WORKERS)
        self.assertEqual(WORKERS, process.text().count(READY), process.text())
        return process

    def send(self, *parts, headers=()):
        """Send a POST as it is.

        :returns: the status line
        """
        head = ['POST /v2.1/os-server-external-events HTTP/1.1', 'Host: x', 'Content-Type: application/json']
        with socket.create_connection(('127.0.0.1', self.router.port), timeout=deployment.PATIENCE) as sock:
            sock.sendall('\r\n'.join([*head, 'Connection: close', *headers, '', '']).encode())
            sock.sendall(b''.join(parts))
            answer = b''
            while received := sock.recv(65536):
                answer += received
        return answer.partition(b'\r\n')[0].decode()

    def check_bodies(self):
        chunked = ('Transfer-Encoding: chunked',)
        half = len(BODY) // 2
        chunks = [b'%x\r\n%b\r\n' % (len(part), part) for part in (BODY[:half], BODY[half:])]
        self.assertIn(' 207 ', self.send(BODY, headers=[f'Content-Length: {len(BODY)}']))
        self.assertIn(' 207 ', self.send(*chunks, b'0\r\n\r\n', headers=chunked))
        self.assertIn(' 400 ', self.send(b'zz\r\n', BODY, b'\r\n0\r\n\r\n', headers=chunked))
        # And the server goes on.
        self.assertIn(' 207 ', self.send(*chunks, b'0\r\n\r\n', headers=chunked))


class GunicornTest(ServerTest):
    ARGUMENTS = ('--bind', '127.0.0.1:{port}', '--workers', WORKERS, '--threads', 4, '--log-level', 'warning')

    def test_workers_that_import_the_application(self):
        process = self.serve('gunicorn', *self.ARGUMENTS, 'external_events_router.wsgi:application')
        self.check_bodies()
        self.assertNotIn('Traceback', process.text())

    def test_a_parent_that_imports_it_and_forks(self):
        self.serve('gunicorn', *self.ARGUMENTS, '--preload', 'external_events_router.wsgi:application')
        self.check_bodies()


class UWSGITest(ServerTest):
    def ini(self, **changed):
        """The shipped configuration on another port, with other values."""
        lines = [
            line
            for line in INI.read_text().splitlines()
            if line.partition(' ')[0] not in {'http-socket', *changed}
        ]
        path = self.useFixture(services.Folder()).path / 'api-uwsgi.ini'
        path.write_text('\n'.join([*lines, *(f'{name} = {value}' for name, value in changed.items()), '']))
        return path

    def test_provided_configuration(self):
        process = self.serve('uwsgi', '--ini', self.ini(), '--http-socket', '127.0.0.1:{port}')
        self.check_bodies()
        self.assertNotIn('Traceback', process.text())

    def test_a_parent_that_imports_it_and_forks(self):
        ini = self.ini(**{'lazy-apps': 'false'})
        self.serve('uwsgi', '--ini', ini, '--http-socket', '127.0.0.1:{port}')
        self.check_bodies()


class Prepared(deployment.Deployment):
    """Configuration and database alone."""

    def start(self):
        pass
