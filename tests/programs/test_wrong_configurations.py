"""Every command with configurations that cannot be used: one line with the option, status 1, no secret."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import fixtures

from external_events_router.process import startup
from tests import base

SECRET = 's3cr'

#: Runs one command with several configurations, in a separate process.
PROGRAM = """
import contextlib, importlib, io, json, sys, traceback
from oslo_config import cfg

module, prog = sys.argv[1:3]
main = importlib.import_module(module).main
for argv in json.load(sys.stdin):
    sys.argv = [f'/usr/bin/{prog}', *argv]
    output = io.StringIO()
    cfg.CONF.clear()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        try:
            status = main()
        except SystemExit as exc:
            status = exc.code
        except BaseException:
            status = None
            traceback.print_exc()
    print(json.dumps([status, output.getvalue()]), flush=True)
"""

#: Command to its module, and the arguments that it needs.
COMMANDS = {
    'external-events-api': ('external_events_router.cmd.api', []),
    'external-events-resolver': ('external_events_router.cmd.resolver', []),
    'external-events-agent': ('external_events_router.cmd.agent', []),
    'external-events-manage': ('external_events_router.cmd.manage', ['db', 'upgrade']),
    'external-events-all-in-one': ('external_events_router.cmd.all_in_one', []),
}

#: The versions and files, and warnings, are in the log before the error.
LOGGED = re.compile(' (INFO|WARNING) ')

#: Lines of the configuration file, and a part of the error line of every command.
WRONG = (
    ('[DEFAULT]\ntransport_url = rabbit://u:s3cr$et@127.0.0.1/', '0.conf, line 2: a "$"'),
    ('[database]\nconnection = mysql://u:s3cr$et@127.0.0.1/y', '1.conf, line 4: a "$"'),
    ('[DEFAULT]\nlog_file = /proc/nonsense/log', '[DEFAULT] log_file, log_dir: the log cannot be written'),
    ('[DEFAULT]\nlog_file = /proc', '[DEFAULT] log_file, log_dir: the log cannot be written'),
    ('[DEFAULT]\nlog_dir = /proc/nonsense', '[DEFAULT] log_file, log_dir: the log cannot be written'),
    ('[DEFAULT]\nlog_config_append = /proc/nonsense', '[DEFAULT] log_config_append: '),
    ('[DEFAULT]\nlog_config_append = /etc/passwd', '[DEFAULT] log_config_append: '),
    ('[DEFAULT]\ndefault_log_levels = nonsense', '[DEFAULT] default_log_levels: '),
    ('[DEFAULT]\nhost = \udcff', 'a file is not UTF-8'),
    ('[delivery]\nack_timeout = soon', '[delivery] ack_timeout: '),
    ('[delivery]\nack_timeout = nan', '[delivery] ack_timeout: nan is not a finite number'),
    ('[delivery]\nevent_ttl = inf', '[delivery] event_ttl: '),
    ('[agent]\nreport_interval = 1e300', '[agent] report_interval: '),
    ('[compute]\ntopic = # x', '[compute] topic: '),
)

#: The same for the database, which the agent does not use.
WRONG_DATABASES = (
    ('postgres://u:s3cr@127.0.0.1/y', 'postgres is not supported; use one of'),
    ('postgresql+psycopg2://u:s3cr@127.0.0.1/y', 'no driver for postgresql+psycopg2'),
    ('mysql+pymysql://u:s3cr%%E2%%82%%AC@127.0.0.1/y', 'the password has characters outside of Latin-1'),
    ('mysql+pymysql://u:s3cr@127.0.0.1:1/y?nonsense=1', "unexpected keyword argument 'nonsense'"),
    ('postgresql://u:s3cr@127.0.0.1:1/y?nonsense=1', 'invalid connection option "nonsense"'),
    ('mysql://u:s3cr@[::1/y', 'is not a database URL'),
)


#: The same for the command that serves without authentication.
EXPOSED = (('[api]\nbind_host = 0.0.0.0', '[api] bind_host: 0.0.0.0 is not a loopback address'),)


class WrongConfigurationsTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 4

    def check(self, command: str) -> None:
        module, arguments = COMMANDS[command]
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        wrong = list(WRONG)
        if command != 'external-events-agent':
            wrong += [(f'[database]\nconnection = {url}', part) for url, part in WRONG_DATABASES]
        if command == 'external-events-all-in-one':
            wrong += EXPOSED
        argvs = []
        for number, (text, _part) in enumerate(wrong):
            file = folder / f'{number}.conf'
            content = text if 'transport_url' in text else f'[DEFAULT]\ntransport_url = fake://\n{text}'
            file.write_bytes(f'{content}\n[api]\nauth_strategy = noauth\n'.encode(errors='surrogateescape'))
            argvs.append(['--config-file', str(file), *arguments])
        done = subprocess.run(
            [sys.executable, '-c', PROGRAM, module, command],
            input=json.dumps(argvs),
            capture_output=True,
            check=False,
            cwd='/',
            env={**os.environ, 'PYTHONPATH': str(pathlib.Path(startup.__file__).parents[2])},
            text=True,
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(wrong), len(answers), done.stderr)
        for (text, part), (status, output) in zip(wrong, answers, strict=True):
            self.assertEqual(1, status, f'{text}\n{output}')
            lines = [line for line in output.splitlines() if not LOGGED.search(line)]
            self.assertEqual(1, len(lines), f'{text}\n{output}')
            self.assertIn(part, lines[0])
            if text.startswith('[database]') and command != 'external-events-manage':
                self.assertIn('[database] connection: ', lines[0])
            self.assertNotIn('Traceback', output)
            self.assertNotIn(SECRET, output)

    def test_api(self) -> None:
        self.check('external-events-api')

    def test_resolver(self) -> None:
        self.check('external-events-resolver')

    def test_agent(self) -> None:
        self.check('external-events-agent')

    def test_manage(self) -> None:
        self.check('external-events-manage')

    def test_all_in_one(self) -> None:
        self.check('external-events-all-in-one')
