"""Output of ``external-events-manage`` for any text, in a shell and from the command."""

import json
import subprocess

import hypothesis
from hypothesis import strategies

from external_events_router.process import printable
from external_events_router.resolver.hold import store
from tests import base
from tests import generated
from tests.programs import test_manage
from tests.unit.cmd import test_formats
from tests.unit.db import databases
from tests.unit.resolver.hold import scenarios


class ShellTest(base.TestCase):
    @generated.examples(30)
    @hypothesis.given(strategies.lists(test_formats.TEXTS, min_size=1, max_size=30))
    def test_shell_format_executes_nothing(self, texts):
        # One shell for many texts, because a shell takes longer to start than to run.
        script = ''.join(
            f'unset a\n{test_formats.shown("show", "shell", text)}printf "%s\\0" "$a"\n' for text in texts
        )
        done = subprocess.run(
            ['/bin/sh', '-u'],
            input=script,
            capture_output=True,
            encoding='utf-8',
            env={'PATH': '/nonexistent'},
            timeout=30,
        )
        self.assertEqual((0, ''), (done.returncode, done.stderr))
        self.assertEqual([*map(printable.escape, texts), ''], done.stdout.split('\0'))


class CommandTest(test_manage.ManageTestCase):
    def setUp(self):
        super().setUp()
        self.database = databases.database(f'sqlite:///{self.folder}/router.db')
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)

    def test_tag_in_every_format(self):
        unsafe = test_formats.UNSAFE
        item = scenarios.item(scenarios.A, tag=unsafe, hosts=['host-a'], reason=unsafe)
        store.HoldStore(self.database).hold([item], scenarios.CONTEXT, retry_after=60.0)
        answers = self.manage(
            *(f'held list --long -f {name}' for name in test_formats.LIST),
            *(f'held show {item.event.id} -f {name}' for name in test_formats.SHOW),
        )
        for status, out, err in answers:
            self.assertEqual((0, ''), (status, err))
            self.assertEqual([], test_formats.unprintable(out), out)
        self.assertEqual(unsafe, json.loads(answers[1][1])[0]['tag'])
        done = subprocess.run(
            ['/bin/sh', '-c', 'eval "$1"; printf %s "$tag"', 'sh', answers[-1][1]],
            capture_output=True,
            cwd=self.folder,
            encoding='utf-8',
            timeout=30,
        )
        self.assertEqual((printable.escape(unsafe), ''), (done.stdout, done.stderr))
        self.assertFalse((self.folder / 'run').exists())

    def test_errors_that_quote_an_argument(self):
        bad = '\x1b[2J\u202e'
        answers = self.manage(
            f'held show {bad}',
            f'held list --state {bad}',
            f'held {bad}',
            f'{bad}',
            f'host-map import {self.folder}/{bad}',
            f'host-map show x --{bad}',
            'held lst' + bad,
        )
        for status, out, err in answers:
            self.assertNotEqual(0, status)
            self.assertEqual([], test_formats.unprintable(out + err), out + err)
            self.assertIn('u202e', out + err)
