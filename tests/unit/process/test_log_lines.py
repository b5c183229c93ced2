"""What a stranger put into a log record, as it is written."""

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

#: Each of them ends a line, moves a cursor, turns the text round, or is none.
BAD = '\n\r\x00\x07\x08\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\ufeff\udc80'


class EscapeTest(base.TestCase):
    def test_what_is_text_stays(self) -> None:
        for text in ('', 'a port', 'Zürich\t10 %', '漢字 🙂', "back\\slash 'quote'"):
            self.assertEqual(text, log_lines.escape(text))

    def test_what_is_not(self) -> None:
        for char, written in (('\n', '\\n'), ('\x1b', '\\x1b'), ('\x9b', '\\x9b'), ('\u2028', '\\u2028')):
            self.assertEqual(f'a{written}b', log_lines.escape(f'a{char}b'))
        self.assertEqual('\\udc80', log_lines.escape('\udc80'))

    @given(strategies.text(strategies.characters(exclude_categories=())))
    def test_whatever_it_is_it_is_one_line_that_can_be_written(self, text: str) -> None:
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
        # NOTE: the test's own capture cannot write all of it.
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

    def test_a_record_is_a_line(self) -> None:
        for formatter in (None, logging.Formatter('%(levelname)s %(message)s'), self.oslo()):
            self.install(formatter)
            self.logger.warning('the tag %s of %d %%', f'a{BAD}\n2026-01-01 ERROR forged', 1)
        lines = self.written.getvalue().split('\n')[:-1]
        self.assertEqual(3, len(lines))
        for line in lines:
            self.assertEqual(set(), set(BAD) & set(line))
            self.assertIn('a\\n\\r\\x00', line)
            self.assertIn('forged of 1 %', line)

    def test_a_traceback_keeps_its_lines_and_each_says_whose_it_is(self) -> None:
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
