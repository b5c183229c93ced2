"""Characters in a log record that come from other systems are escaped."""

from __future__ import annotations

import io
import logging

from hypothesis import given
from hypothesis import strategies
from oslo_config import cfg
from oslo_log import formatters
from oslo_log import log

from external_events_router.process import log_lines
from tests import base

#: Characters that end a line, move a cursor, change the direction of text, or are invalid.
BAD = '\n\r\x00\x07\x08\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\ufeff\udc80'


class EscapeTest(base.TestCase):
    def test_printable_text_is_not_changed(self) -> None:
        for text in ('', 'a port', 'Zürich\t10 %', '漢字 🙂', "back\\slash 'quote'"):
            self.assertEqual(text, log_lines.escape(text))

    def test_other_characters_are_escaped(self) -> None:
        for char, written in (('\n', '\\n'), ('\x1b', '\\x1b'), ('\x9b', '\\x9b'), ('\u2028', '\\u2028')):
            self.assertEqual(f'a{written}b', log_lines.escape(f'a{char}b'))
        self.assertEqual('\\udc80', log_lines.escape('\udc80'))

    @given(strategies.text(strategies.characters(exclude_categories=())))
    def test_any_text_becomes_one_line_that_can_be_written(self, text: str) -> None:
        written = log_lines.escape(text)
        self.assertLessEqual(len(written.splitlines()), 1)
        written.encode()
        self.assertEqual(set(), set(BAD) & set(written))


class FormatterTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.written = io.StringIO()
        self.handler = logging.StreamHandler(self.written)
        self.logger = logging.getLogger('tests.log_lines')
        # NOTE: the log capture of the test cannot write all of these characters.
        self.logger.propagate = False
        self.logger.addHandler(self.handler)
        self.addCleanup(self.logger.removeHandler, self.handler)

    def install(self, formatter: logging.Formatter | None) -> None:
        self.handler.setFormatter(formatter)
        before = {each: each.formatter for each in logging.getLogger().handlers}
        log_lines.install()
        for each, its in before.items():
            each.setFormatter(its)

    def oslo(self) -> formatters.ContextFormatter:
        conf = cfg.ConfigOpts()
        log.register_options(conf)
        conf([], default_config_files=[], default_config_dirs=[])
        return formatters.ContextFormatter(version='1', config=conf)

    def test_record_is_one_line(self) -> None:
        for formatter in (None, logging.Formatter('%(levelname)s %(message)s'), self.oslo()):
            self.install(formatter)
            self.logger.warning('the tag %s of %d %%', f'a{BAD}\n2026-01-01 ERROR forged', 1)
        lines = self.written.getvalue().split('\n')[:-1]
        self.assertEqual(3, len(lines))
        for line in lines:
            self.assertEqual(set(), set(BAD) & set(line))
            self.assertIn('a\\n\\r\\x00', line)
            self.assertIn('forged of 1 %', line)

    def test_traceback_keeps_its_lines_and_each_line_is_prefixed(self) -> None:
        self.install(self.oslo())
        try:
            raise ValueError(f'{BAD}\nforged')
        except ValueError:
            self.logger.exception('oh')
        lines = self.written.getvalue().split('\n')[:-1]
        self.assertGreater(len(lines), 4)
        for line in lines:
            self.assertEqual(set(), set(BAD) & set(line))
            self.assertIn('tests.log_lines', line)

    def test_installing_again_escapes_once(self) -> None:
        for _ in range(2):
            log_lines.install()
        self.install(None)
        log_lines.install()
        self.logger.warning('\\n and \n')
        self.assertEqual('\\n and \\n\n', self.written.getvalue())
