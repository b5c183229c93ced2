"""Output of ``external-events-manage`` for any text: visible on a terminal, without effect in a shell."""

import argparse
import csv
import functools
import io
import json
import subprocess

from cliff import columns
import hypothesis
from hypothesis import strategies
import stevedore
import yaml

from external_events_router.process import printable
from external_events_router.resolver.hold import store
from tests import base
from tests import generated
from tests.unit.cmd import test_manage
from tests.unit.db import databases
from tests.unit.resolver.hold import scenarios

#: Any text, especially characters that terminals, shells and spreadsheets interpret.
TEXTS = strategies.one_of(
    strategies.text(strategies.characters(exclude_categories=())),
    strategies.text(
        strategies.sampled_from('$`"\'\\;&|<>(){}*?~!# \n\r\t\x00\x1b\x7f\x9b\xad\u202e\u2066=+-@a0')
    ),
)

NASTY = '$(touch run)`touch run`";\'touch run;\x1b[2J\x9b\u202e\r\n\x07\x7f\u2028'

LIST = ('csv', 'json', 'table', 'value', 'yaml')
SHOW = (*LIST, 'shell')


class Hosts(columns.FormattableColumn):
    def human_readable(self):
        return ', '.join(self._value)


@functools.cache
def formatter(kind, name):
    (found,) = [
        extension.plugin()
        for extension in stevedore.ExtensionManager(f'external_events_router.manage.{kind}')
        if extension.name == name
    ]
    return found


def shown(kind, name, *cells):
    """The output of a formatter for cells, in columns with letters as names."""
    chosen, parser = formatter(kind, name), argparse.ArgumentParser()
    chosen.add_argument_group(parser)
    out = io.StringIO()
    names = tuple('abcdef'[: len(cells)])
    if kind == 'list':
        chosen.emit_list(names, [cells], out, parser.parse_args([]))
    else:
        chosen.emit_one(names, cells, out, parser.parse_args([]))
    return out.getvalue()


def unprintable(text):
    return sorted({char for char in text if not char.isprintable() and char != '\n'})


class FormatsTest(base.TestCase):
    @hypothesis.given(TEXTS)
    def test_output_has_only_printable_characters(self, text):
        for kind, names in (('list', LIST), ('show', SHOW)):
            for name in names:
                out = shown(kind, name, text, Hosts([text]), 1, None)
                self.assertEqual([], unprintable(out), f'{kind} {name}: {out!r}')

    @hypothesis.given(TEXTS)
    def test_machine_readable_formats_have_the_unchanged_text(self, text):
        row = {'a': text, 'b': [text]}
        self.assertEqual([row], json.loads(shown('list', 'json', text, Hosts([text]))))
        self.assertEqual(row, json.loads(shown('show', 'json', text, Hosts([text]))))
        self.assertEqual(row, yaml.safe_load(shown('show', 'yaml', text, Hosts([text]))))

    @hypothesis.given(TEXTS)
    def test_value_is_one_line(self, text):
        self.assertEqual(1, shown('list', 'value', text, Hosts([text])).count('\n'))
        self.assertEqual(2, shown('show', 'value', text, Hosts([text])).count('\n'))
        self.assertEqual(1, shown('show', 'shell', text).count('\n'))

    @hypothesis.given(TEXTS)
    def test_csv_cell_is_never_a_formula(self, text):
        _names, (cell, hosts, number) = csv.reader(io.StringIO(shown('list', 'csv', text, Hosts([text]), -1)))
        for value in (cell, hosts):
            self.assertNotIn(value[:1], ('=', '+', '-', '@'))
            self.assertEqual(printable.escape(text), value.removeprefix("'") if text[:1] in '=+-@' else value)
        self.assertEqual('-1', number)

    @generated.examples(30)
    @hypothesis.given(strategies.lists(TEXTS, min_size=1, max_size=30))
    def test_shell_format_executes_nothing(self, texts):
        # One shell for many texts, because a shell takes longer to start than to run.
        script = ''.join(f'unset a\n{shown("show", "shell", text)}printf "%s\\0" "$a"\n' for text in texts)
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


class StreamTest(base.TestCase):
    @hypothesis.given(TEXTS)
    def test_line_ends_are_kept_and_other_control_characters_are_escaped(self, text):
        inner = io.StringIO()
        printable.Stream(inner).write(text)
        self.assertEqual([], unprintable(inner.getvalue()))
        self.assertEqual(text.count('\n'), inner.getvalue().count('\n'))

    def test_characters_outside_of_the_encoding_are_escaped(self):
        raw = io.BytesIO()
        stream = printable.Stream(io.TextIOWrapper(raw, encoding='ascii'))
        stream.write('h\xf6st-\u4e00\n')
        stream.flush()
        self.assertEqual(b'h\\xf6st-\\u4e00\n', raw.getvalue())


class CommandTest(test_manage.ManageTestCase):
    def setUp(self):
        super().setUp()
        self.database = databases.database(f'sqlite:///{self.folder}/router.db')
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)

    def test_tag_in_every_format(self):
        item = scenarios.item(scenarios.A, tag=NASTY, hosts=['host-a'], reason=NASTY)
        store.HoldStore(self.database).hold([item], scenarios.CONTEXT, retry_after=60.0)
        answers = self.manage(
            *(f'held list --long -f {name}' for name in LIST),
            *(f'held show {item.event.id} -f {name}' for name in SHOW),
        )
        for status, out, err in answers:
            self.assertEqual((0, ''), (status, err))
            self.assertEqual([], unprintable(out), out)
        self.assertEqual(NASTY, json.loads(answers[1][1])[0]['tag'])
        done = subprocess.run(
            ['/bin/sh', '-c', 'eval "$1"; printf %s "$tag"', 'sh', answers[-1][1]],
            capture_output=True,
            cwd=self.folder,
            encoding='utf-8',
            timeout=30,
        )
        self.assertEqual((printable.escape(NASTY), ''), (done.stdout, done.stderr))
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
            self.assertEqual([], unprintable(out + err), out + err)
            self.assertIn('u202e', out + err)
