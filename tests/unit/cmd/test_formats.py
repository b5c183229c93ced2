"""Output of ``external-events-manage`` for any text: visible on a terminal, without effect in a shell."""

import argparse
import csv
import functools
import io
import json

from cliff import columns
import hypothesis
from hypothesis import strategies
import stevedore
import yaml

from external_events_router.process import printable
from tests import base

#: Any text, especially characters that terminals, shells and spreadsheets interpret.
TEXTS = strategies.one_of(
    strategies.text(strategies.characters(exclude_categories=())),
    strategies.text(
        strategies.sampled_from('$`"\'\\;&|<>(){}*?~!# \n\r\t\x00\x1b\x7f\x9b\xad\u202e\u2066=+-@a0')
    ),
)

UNSAFE = '$(touch run)`touch run`";\'touch run;\x1b[2J\x9b\u202e\r\n\x07\x7f\u2028'

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
