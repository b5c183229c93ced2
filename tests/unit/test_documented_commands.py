"""The commands, options, panels and checks that the documentation names exist."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import pathlib
import re
import shlex
from typing import Any

from external_events_router.cmd import manage
from external_events_router.cmd.manage import app
from external_events_router.conf import opts
from external_events_router.doctor import catalogue
from tests import base
from tools import panels

PAGES = pathlib.Path(__file__).parents[2] / 'doc/source'
TROUBLESHOOTING = PAGES / 'admin/troubleshooting.rst'
NAME = 'external-events-manage'

#: A command in a literal or in an example, up to the end of the literal or line.
_LITERAL = re.compile(rf'``{NAME}\s([^`]+)``')
_LINE = re.compile(
    rf'^\s+(?:\S*[$#]\s+)?(?:\S*/)?{NAME} ([^|>\n]*?(?:\\\n[^|>\n]*?)*)(?:[|>]|$)', re.MULTILINE
)
_OPTION = re.compile(r'``\[([a-z_]+)\] ([a-z_]+)')
_PANEL = re.compile(r'panels? ((?:"[^"]+"(?:, | and )?)+)')

#: Questions that the table of the page must answer.
QUESTIONS = (
    'Why did server X time out?',
    'Which hosts cannot be reached?',
    'Does Neutron send events?',
    'What are the rate, the latency and the share of held events?',
    'Is the upgrade safe?',
    'How do I drain an API process?',
    'Where is the dashboard?',
    'How do I run it in containers?',
    'How do I back up?',
    'How do I write a report about a process that hangs?',
)

#: Words that end the command in an example.
_ENDS = ('&&', ';', '&')


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in a page."""
    for pattern in (_LITERAL, _LINE):
        for match in pattern.finditer(text):
            words = shlex.split(match[1].replace('\\\n', ' '), comments=True)
            for end in _ENDS:
                words = words[: words.index(end)] if end in words else words
            if words:
                yield words


def problem(words: list[str]) -> str | None:
    """Return what is wrong with a command; None: it exists with its options."""
    while words and words[0].startswith('--config-'):
        words = words[1:] if '=' in words[0] else words[2:]
    if not words or words[0] in ('--help', 'complete', 'help', '...', 'COMMAND', '--version'):
        return None
    for length in (2, 1):
        if factory := manage.COMMANDS.get(' '.join(words[:length])):
            return _unknown_option(factory, words[length:])
    if f'{words[0]} ' in ' '.join(f'{name} ' for name in manage.COMMANDS) and len(words) == 1:
        return None
    return f'unknown command {" ".join(words[:2])}'


def _unknown_option(factory: Any, words: list[str]) -> str | None:
    program = app.ManageApp({})
    parser: argparse.ArgumentParser = factory(program, None).get_parser('command')
    known = {option for action in parser._actions for option in action.option_strings}
    for word in words:
        option = word.partition('=')[0]
        if option.startswith('-') and option != '-' and option not in known:
            return f'{factory.__name__} has no option {option}'
    return None


class DocumentedCommandsTest(base.TestCase):
    def test_each_command_exists(self) -> None:
        found, problems = 0, []
        for path in sorted(PAGES.rglob('*.rst')):
            for words in commands(path.read_text(encoding='utf-8')):
                found += 1
                if text := problem(words):
                    problems.append(f'{path.relative_to(PAGES)}: {shlex.join(words)}: {text}')
        self.assertEqual([], problems, '\n'.join(problems))
        self.assertGreater(found, 50)

    def test_unknown_commands_and_options_are_found(self) -> None:
        page = f'Use ``{NAME} nothing here``::\n\n    $ {NAME} held list --nowhere | less\n'
        self.assertEqual(
            ['unknown command nothing here', 'List has no option --nowhere'],
            [problem(words) for words in commands(page)],
        )

    def test_each_option_exists(self) -> None:
        known = {group: {opt.dest for opt in group_opts} for group, group_opts in opts.list_opts()}
        found, unknown = 0, []
        for path in sorted((PAGES / 'admin').rglob('*.rst')):
            for group, name in _OPTION.findall(' '.join(path.read_text(encoding='utf-8').split())):
                if group in known and group not in ('DEFAULT', 'database'):
                    found += 1
                    unknown += [] if name in known[group] else [f'{path.name}: [{group}] {name}']
        # NOTE: this is an option of nova.conf.
        self.assertEqual(['nova.rst: [upgrade_levels] compute'], unknown)
        self.assertGreater(found, 100)

    def test_the_questions_of_operators_have_an_answer(self) -> None:
        text = TROUBLESHOOTING.read_text()
        for question in QUESTIONS:
            self.assertIn(f'   * - {question}\n     - ', text)

    def test_each_panel_exists(self) -> None:
        titles = {panel.title for row in panels.ROWS for panel in row.panels}
        named = set()
        for match in _PANEL.finditer(' '.join(TROUBLESHOOTING.read_text().split())):
            named |= set(re.findall('"([^"]+)"', match[1]))
        self.assertGreater(len(named), 3)
        self.assertEqual(set(), named - titles)

    def test_the_page_describes_each_check(self) -> None:
        text = TROUBLESHOOTING.read_text()
        described = re.findall(r'^   \* - ``([a-z-]+)``$', text, re.MULTILINE)
        self.assertEqual([check.name for check in catalogue.CHECKS], described)
