"""Checks in parallel: their limits, their errors, and checks that need others."""

from __future__ import annotations

import threading
from typing import Any

from external_events_router import exceptions
from external_events_router.doctor import base as checks
from external_events_router.doctor import catalogue
from external_events_router.doctor import runner
from tests import base


def ok(_site: Any) -> checks.Result:
    return checks.ok('fine')


def raises(_site: Any) -> checks.Result:
    raise ZeroDivisionError('one by zero')


class RunnerTest(base.TestCase):
    def run_checks(self, *some: checks.Check) -> dict[str, checks.Result]:
        site: Any = None
        return {report.name: report.result for report in runner.run(some, site)}

    def test_an_exception_is_a_failure_of_its_check_only(self) -> None:
        results = self.run_checks(checks.Check('a', raises), checks.Check('b', ok))
        self.assertEqual(checks.Status.FAIL, results['a'].status)
        self.assertIn('ZeroDivisionError: one by zero', results['a'].evidence)
        self.assertEqual(checks.Status.OK, results['b'].status)

    def test_errors_of_the_service_are_evidence(self) -> None:
        def refused(_site: Any) -> checks.Result:
            raise exceptions.ConfigurationError(option='[a] b', reason='is wrong')

        self.assertEqual('[a] b: is wrong', self.run_checks(checks.Check('a', refused))['a'].evidence)

    def test_a_check_that_hangs_is_a_failure_of_its_check_only(self) -> None:
        ended = threading.Event()
        self.addCleanup(ended.set)

        def hang(_site: Any) -> checks.Result:
            ended.wait(60)
            return checks.ok('too late')

        results = self.run_checks(checks.Check('a', hang, timeout=0.2), checks.Check('b', ok))
        self.assertEqual(checks.Status.FAIL, results['a'].status)
        self.assertIn('within 0.2 s', results['a'].evidence)
        self.assertEqual(checks.Status.OK, results['b'].status)

    def test_checks_run_at_the_same_time(self) -> None:
        both = threading.Barrier(2)

        def meet(_site: Any) -> checks.Result:
            both.wait(30)
            return checks.ok('met')

        results = self.run_checks(checks.Check('a', meet), checks.Check('b', meet))
        self.assertEqual({'met'}, {result.evidence for result in results.values()})

    def test_a_check_that_needs_a_failed_check_does_not_run(self) -> None:
        results = self.run_checks(
            checks.Check('c', ok, needs=('b',)),
            checks.Check('b', ok, needs=('a',)),
            checks.Check('a', raises),
            checks.Check('d', ok, needs=('not selected',)),
        )
        self.assertEqual(['c', 'b', 'a', 'd'], list(results))
        self.assertIn('check a fails', results['b'].evidence)
        self.assertEqual(checks.Status.WARN, results['b'].status)
        self.assertEqual(checks.Status.OK, results['d'].status)

    def test_the_worst_status_is_the_exit_status(self) -> None:
        site: Any = None
        for expected, found in ((0, ok), (1, lambda _site: checks.warn('a', 'b')), (2, raises)):
            reports = runner.run([checks.Check('a', ok), checks.Check('b', found)], site)
            self.assertEqual(expected, runner.worst(reports))


class CatalogueTest(base.TestCase):
    def test_names_are_unique_and_needed_checks_come_first(self) -> None:
        names = [check.name for check in catalogue.CHECKS]
        self.assertEqual(len(names), len(set(names)))
        for service in checks.SERVICES:
            seen: set[str] = set()
            for check in catalogue.checks_for(service):
                self.assertLessEqual(set(check.needs), seen, (service, check.name))
                seen.add(check.name)

    def test_an_agent_needs_no_database(self) -> None:
        names = {check.name for check in catalogue.checks_for(checks.AGENT)}
        self.assertFalse(
            {name for name in names if name.startswith(('database', 'keystone', 'nova', 'host'))}
        )
        self.assertIn('broker-login', names)
