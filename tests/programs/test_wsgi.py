"""The application for any WSGI server: the time of its start, and the features of uWSGI that it uses."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

import fixtures

from external_events_router.process import startup
from tests import base

#: Imports the application under a simulated server, and prints in which process it started.
PROGRAM = """
import os, sys, types
from external_events_router.process import api_application as api_application

def make_app(conf, *, unhealthy):
    def app(environ, start_response):
        return [environ['wsgi.input'].read(9)]
    print('started', os.getpid() == first, flush=True)
    return app

first = os.getpid()
api_application.make_app = make_app
sys.argv = ['server']
{server}
print('end', flush=True)
"""

UWSGI = "uwsgi = sys.modules['uwsgi'] = types.SimpleNamespace(worker_id=lambda: number)\n"
IMPORT = 'from external_events_router import wsgi\n'
WAIT = """
import threading
[thread.join() for thread in threading.enumerate() if thread.name == 'start-application']
"""
FORK = f"""
if os.fork():
    os.wait()
else:
    number = 1
    {{hook}}
    {WAIT.strip().splitlines()[0]}
    {WAIT.strip().splitlines()[1]}
    os._exit(0)
"""


class StartTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def output_of(self, server: str, options: str = '') -> list[str]:
        config = self.create_tempfiles([('router', f'[DEFAULT]\ntransport_url = fake://\n{options}')])[0]
        done = subprocess.run(
            [sys.executable, '-c', PROGRAM.replace('{server}', server)],
            capture_output=True,
            check=False,
            env={
                **os.environ,
                'PYTHONPATH': str(pathlib.Path(startup.__file__).parents[2]),
                'OS_EXTERNAL_EVENTS_ROUTER_CONFIG_FILES': config,
            },
            text=True,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        # NOTE: without the lines of the log.
        return [line for line in done.stdout.splitlines() if line and ' external_events_router.' not in line]

    def test_worker_of_uwsgi_that_imports_it(self) -> None:
        self.assertEqual(['started True', 'end'], self.output_of(f'number = 1\n{UWSGI}{IMPORT}{WAIT}'))

    def test_parent_of_uwsgi_that_forks(self) -> None:
        fork = FORK.format(hook='uwsgi.post_fork_hook()')
        self.assertEqual(['started False', 'end'], self.output_of(f'number = 0\n{UWSGI}{IMPORT}{fork}'))

    def test_mule_of_uwsgi(self) -> None:
        output = self.output_of(f'number = 0\n{UWSGI}{IMPORT}uwsgi.post_fork_hook(){WAIT}')
        self.assertEqual(['end'], output)

    def test_worker_of_gunicorn_that_imports_it(self) -> None:
        server = "sys.modules['gunicorn.arbiter'] = types.ModuleType('gunicorn.arbiter')\n"
        worker = f"exec({IMPORT!r}, {{'__name__': 'gunicorn.workers.base'}})\n"
        self.assertEqual(['started True', 'end'], self.output_of(f'{server}{worker}{WAIT}'))

    def test_parent_of_gunicorn_that_forks(self) -> None:
        server = "sys.modules['gunicorn.arbiter'] = types.ModuleType('gunicorn.arbiter')\n"
        self.assertEqual(
            ['started False', 'end'], self.output_of(f'{server}{IMPORT}{FORK.format(hook="pass")}')
        )

    def test_other_server_starts_it_with_the_first_request(self) -> None:
        request = "import io\nprint(wsgi.application({'wsgi.input': io.BytesIO(b'body')}, None))\n"
        self.assertEqual(['end'], self.output_of(IMPORT))
        self.assertEqual(['started True', "[b'body']", 'end'], self.output_of(IMPORT + request))

    def test_a_start_that_fails_again_and_again_claims_one_slot(self) -> None:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        with socket.create_server(('127.0.0.1', 0)) as used:
            options = (
                f'[metrics]\nbind_port = {used.getsockname()[1]}\ndirectory = {folder}\n'
                f'[database]\nconnection = sqlite:///{folder}/router.sqlite\n'
            )
            fail = (
                'from external_events_router import exceptions\n'
                'def fail(conf, *, unhealthy):\n'
                "    raise exceptions.ConfigurationError(option='[api]', reason='not possible')\n"
                'api_application.make_app = fail\n'
                'for _ in range(3):\n'
                '    try:\n'
                '        wsgi.application({}, None)\n'
                '    except exceptions.ConfigurationError as exc:\n'
                "        sys.stdout.write('failed\\n')\n"  # one write, because another thread logs
            )
            self.assertEqual(['failed'] * 3 + ['end'], self.output_of(IMPORT + fail, options))
        self.assertEqual(['slot_0.lock'], [path.name for path in (folder / 'api').glob('slot_*.lock')])

    def test_chunked_body_under_uwsgi(self) -> None:
        request = (
            "chunks = [b'', b'and more', b'a body ']\n"
            'uwsgi.chunked_read = chunks.pop\n'
            "environ = {'HTTP_TRANSFER_ENCODING': 'chunked', 'wsgi.input': None}\n"
            'print(wsgi.application(environ, None))\n'
            "body = environ['wsgi.input']\n"
            'print(body.read(3), body.read(99), body.read(99), body.read(99))\n'
        )
        output = self.output_of(f'number = 1\n{UWSGI}{IMPORT}{WAIT}{request}')
        self.assertEqual(["[b'a body ']", "b'and' b' more' b'' b''"], output[1:-1])
