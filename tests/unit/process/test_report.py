"""The parts of a report; tests/programs has the signals."""

from __future__ import annotations

import threading

from external_events_router.concurrency import bounded_pool
from external_events_router.process import parts
from external_events_router.process import report
from tests import base


class PasswordsTest(base.TestCase):
    def test_each_password_of_a_url_is_hidden(self) -> None:
        for text, hidden in (
            ('rabbit://u:p1@h1:5672,u2:p2@h2:5672/v', 'rabbit://u:***@h1:5672,u2:***@h2:5672/v'),
            ('mysql://u:p/a@s@h/db, port:1', 'mysql://u:***@h/db, port:1'),
            ('http://host:80/a, x@y', 'http://host:80/a, x@y'),
        ):
            self.assertEqual(hidden, report._PASSWORD.sub(r'\1***@', text))


class WriteTest(base.TestCase):
    def test_exception_does_not_end_the_thread(self) -> None:
        self.patch(report, 'Report', None)
        report._write(None, 'a-command', '1')
        self.assertIn('the report cannot be written', self.logs.output)


class SectionsTest(base.TestCase):
    def test_a_part_that_fails_or_hangs_leaves_the_others(self) -> None:
        self.patch(report, 'SECTION_TIMEOUT', 0.2)
        pool = bounded_pool.BoundedPool(1, 'a-pool')
        release = threading.Event()
        self.addCleanup(release.set)

        def fail(_part: object) -> parts.Status:
            raise ValueError('sesame')

        def hang(_part: object) -> parts.Status:
            release.wait(30)
            return parts.Status('late')

        for kind, status in ((parts.Kind.HOLD, fail), (parts.Kind.JOURNAL, hang)):
            part = threading.Event()
            parts.ALL.add(kind, part, status)
            self.addCleanup(parts.ALL.remove, part)
        parts.ALL.add(parts.Kind.POOL, pool, bounded_pool.BoundedPool.status)
        self.addCleanup(parts.ALL.remove, pool)
        text = report.Report(report.Version('a-command', '1')).run()
        self.assertIn('error = ValueError', text)
        self.assertNotIn('sesame', text)
        self.assertIn('error = no answer within', text)
        self.assertIn('a-pool', text)


class RegistryTest(base.TestCase):
    def test_forgets_a_part_that_is_gone_or_removed(self) -> None:
        registry = parts.Registry()
        gone, removed, kept = threading.Event(), threading.Event(), threading.Event()
        for name, part in (('gone', gone), ('removed', removed), ('kept', kept)):
            registry.add(parts.Kind.POOL, part, lambda _part, name=name: parts.Status(name))
        self.assertEqual(
            ['gone', 'kept', 'removed'], [status.name for status in registry.read(parts.Kind.POOL)]
        )
        registry.remove(removed)
        del gone, part
        self.assertEqual(['kept'], [status.name for status in registry.read(parts.Kind.POOL)])
        self.assertEqual([], registry.read(parts.Kind.HOLD))
