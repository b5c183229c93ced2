"""The command for operators, in a separate process that runs several commands in order."""

import contextlib
import json
import pathlib
import sqlite3

import fixtures

from external_events_router.db import migration
from tests import base
from tests import interpreter

A, B = ('00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-00000000000b')

#: Runs the commands that it gets as JSON, and prints the result of each as JSON.
COMMANDS = """
import contextlib, io, json, sys
from oslo_config import cfg
from external_events_router.cmd import manage

answers = []
for argv in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = manage.run(argv)
        except SystemExit as exc:
            status = exc.code
    cfg.CONF.reset()
    answers.append((status, out.getvalue(), err.getvalue()))
json.dump(answers, sys.stdout)
"""

SCRIPT = 'import sys; from external_events_router.cmd import manage; sys.exit(manage.main())'


class ManageTestCase(base.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.config = self.folder / 'router.conf'
        self.configure(f'sqlite:///{self.folder}/router.db')

    def configure(self, connection):
        self.config.write_text(f'[database]\nconnection = {connection}\n')

    def manage(self, *commands, config=None):
        """Status, standard output and standard error of each command."""
        config = str(config or self.config)
        argvs = [['--config-file', config, *command.split()] for command in commands]
        done = interpreter.run(COMMANDS, json.dumps(argvs))
        self.assertEqual('', done.stderr)
        return json.loads(done.stdout)

    def refused(self, answer):
        """Check that a command has failed, and return its one line of output."""
        status, out, err = answer
        self.assertEqual((1, ''), (status, out))
        self.assertEqual(1, len(err.splitlines()), err)
        self.assertTrue(err.startswith('external-events-manage: '), err)
        return err

    def map_file(self, *lines):
        path = self.folder / 'map.jsonl'
        path.write_text(''.join(f'{line}\n' for line in lines))
        return path


class TestHelp(ManageTestCase):
    def test_help_of_a_command(self):
        for status, out, err in self.manage('host-map import --help', 'help host-map import'):
            self.assertEqual((0, ''), (status, err))
            self.assertTrue(out.startswith('usage: external-events-manage host-map import '), out)


class TestSchema(ManageTestCase):
    def test_upgrade_from_an_empty_database(self):
        before, early, upgrade, again, after = self.manage(
            'db version -f json', f'host-map show {A}', 'db upgrade', 'db upgrade', 'db version -f value'
        )
        self.assertEqual({'current': None, 'newest': migration.head()}, json.loads(before[1]))
        self.assertIn('external-events-manage db upgrade', self.refused(early))
        self.assertEqual([[0, '', '']] * 2, [upgrade, again])
        self.assertEqual([migration.head()] * 2, after[1].split())

    def test_log_messages_are_not_part_of_the_output(self):
        self.manage('db upgrade', f'host-map assign {A} one')
        with contextlib.closing(sqlite3.connect(self.folder / 'router.db')) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '999'")
        (export,) = self.manage('host-map export')
        self.assertEqual({'server': A, 'hosts': ['one']}, json.loads(export[1]))
        self.assertIn('newer than this release supports', export[2])


class TestHostMap(ManageTestCase):
    def test_assign_show_and_forget(self):
        _, assign, both, show, one, none, table, forget, gone = self.manage(
            'db upgrade',
            f'host-map assign {A.upper()} host-b -f json',
            f'host-map assign {A} host-a -f csv',
            f'host-map show {A} -f json',
            f'host-map unassign {A} host-b -f value',
            f'host-map unassign {A} host-a -f json',
            f'host-map show {A}',
            f'host-map forget {A}',
            f'host-map show {A}',
        )
        self.assertEqual({'server': A, 'hosts': ['host-b']}, json.loads(assign[1]))
        self.assertEqual(f'server,hosts\n{A},"host-a, host-b"\n', both[1])
        self.assertEqual({'server': A, 'hosts': ['host-a', 'host-b']}, json.loads(show[1]))
        self.assertEqual([0, f"{A}\n['host-a']\n", ''], one)
        self.assertEqual({'server': A, 'hosts': []}, json.loads(none[1]))
        self.assertIn(f'| server | {A} |', table[1])
        self.assertEqual([0, '', ''], forget)
        self.assertIn(A, self.refused(gone))

    def test_import_and_export(self):
        path = self.map_file(f'{{"server": "{B}", "hosts": ["two", "one"]}}', '', f'{{"server": "{A}"}}')
        _, imported, again, export = self.manage(
            'db upgrade',
            f'host-map import {path} -f json',
            f'host-map import {path} -f csv',
            'host-map export',
        )
        self.assertEqual({'servers': 2, 'added': 2, 'changed': 0, 'unchanged': 0}, json.loads(imported[1]))
        self.assertEqual('servers,added,changed,unchanged\n2,0,0,2\n', again[1])
        self.assertEqual(
            [{'server': A, 'hosts': []}, {'server': B, 'hosts': ['one', 'two']}],
            [json.loads(line) for line in export[1].splitlines()],
        )

    def test_import_from_standard_input(self):
        self.manage('db upgrade')
        argv = ('--config-file', self.config, 'host-map', 'import', '-')
        done = interpreter.run(SCRIPT, *argv, input=f'{{"server": "{A}"}}\n', check=True)
        self.assertIn('| added     | 1     |', done.stdout)

    def test_progress_is_printed(self):
        path = self.map_file(*(f'{{"server": "{number:032x}"}}' for number in range(100_001)))
        _, imported = self.manage('db upgrade', f'host-map import {path}')
        self.assertEqual(
            ['reading: 100000 lines', 'writing: 100000 of 100001 servers'], imported[2].splitlines()
        )

    def test_invalid_line_changes_nothing(self):
        path = self.map_file(f'{{"server": "{A}"}}', f'{{"server": "{B}", "hosts": "one"}}')
        _, bad, export = self.manage('db upgrade', f'host-map import {path}', 'host-map export')
        self.assertIn('line 2: "hosts" is not a list', self.refused(bad))
        self.assertEqual([0, '', ''], export)


class TestErrors(ManageTestCase):
    def test_each_error_is_one_line(self):
        _, *answers = self.manage(
            'db upgrade',
            'host-map show nonsense',
            f'host-map assign {A} {"x" * 256}',
            f'host-map unassign {A} one',
            f'host-map forget {A}',
            f'host-map import {self.folder}/not-there',
        )
        expected = ('nonsense', 'host name', A, A, 'not-there')
        for answer, part in zip(answers, expected, strict=True):
            self.assertIn(part, self.refused(answer))

    def test_unreachable_database(self):
        for connection in (
            'postgresql://router:s3cret@127.0.0.1:1/router',
            'mysql://router:s3cret@127.0.0.1:1/router',
            f'sqlite:///{self.folder}/no/such/folder.db',
            # The file exists, and is not a database.
            f'sqlite:///{self.config}',
        ):
            self.configure(connection)
            for answer in self.manage('host-map export', 'db upgrade'):
                self.assertNotIn('s3cret', self.refused(answer))

    def test_missing_configuration(self):
        (missing,) = self.manage('db version', config=self.folder / 'not-there')
        self.assertIn('not-there', self.refused(missing))
        self.config.write_text('')
        (unset,) = self.manage('db version')
        self.assertIn('[database] connection: is not set', self.refused(unset))
        self.config.write_text('[database]\nmax_pool_size = many\n')
        (bad,) = self.manage('db version')
        self.assertIn('[database] max_pool_size', self.refused(bad))

    def test_missing_command(self):
        status, out, err = self.manage('')[0]
        self.assertEqual((1, ''), (status, out))
        self.assertIn('usage: external-events-manage', err)
