import threading
import time

import fixtures

from external_events_router import exceptions
from external_events_router.agent import clock
from external_events_router.agent import reporter
from external_events_router.agent import sources
from external_events_router.resolver import rpcapi
from tests import base
from tests.unit.agent import helpers


class Client:
    def __init__(self):
        self.reports = []
        self.failures = 0
        self.error = exceptions.ResolverUnavailable(reason='a test')
        self.tried = 0
        self.required = None
        self.tokens = []

    def report(self, ctxt, host, server_uuids, token=''):
        self.tried += 1
        self.tokens.append((host, token))
        if self.failures:
            self.failures -= 1
            raise self.error
        now = time.time() + 100
        if self.required not in (None, token):
            return rpcapi.Reported(now, proof_needed=True)
        self.reports.append((host, server_uuids))
        return rpcapi.Reported(now)


class Source(sources.NoSource):
    def __init__(self, *servers):
        self.now = set(servers)

    def servers(self, host):
        return self.now


class ReporterCase(base.TestCase):
    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('external_events_router.agent.reporter.FIRST_PAUSE', 0.01))
        self.client = Client()
        self.clock = clock.ResolverClock()

    def _reporter(self, interval=1000.0):
        made = reporter.Reporter(self.client, self.clock, interval=interval)
        self.addCleanup(made.stop)
        made.start()
        return made

    def _wait_for_reports(self, number):
        helpers.wait_until(lambda: len(self.client.reports) >= number)


class TestReporter(ReporterCase):
    def test_report_at_start_returns_the_time_of_the_resolver(self):
        self._reporter().add('a', sources.NoSource())
        self._wait_for_reports(1)
        self.assertEqual([('a', None)], self.client.reports)
        helpers.wait_until(lambda: self.clock.now() > time.time() + 90)

    def test_report_at_the_interval(self):
        self._reporter(interval=0.01).add('a', Source('s'))
        self._wait_for_reports(3)
        self.assertEqual({('a', frozenset('s'))}, set(self.client.reports))

    def test_report_after_a_change(self):
        source = Source('s')
        made = self._reporter()
        made.add('a', source)
        self._wait_for_reports(1)
        source.now = {'s', 't'}
        made.changed('a')
        self._wait_for_reports(2)
        self.assertEqual(('a', frozenset('st')), self.client.reports[-1])

    def test_no_report_without_a_change(self):
        source = Source('s')
        made = self._reporter()
        made.add('a', source)
        self._wait_for_reports(1)
        made.changed('a')
        made.changed('unknown')
        made.add('b', source)
        self._wait_for_reports(2)
        self.assertEqual(['a', 'b'], [host for host, _servers in self.client.reports])

    def test_report_is_retried_if_no_resolver_is_available_at_start(self):
        self.client.failures = 3
        made = self._reporter()
        made.add('a', sources.NoSource())
        made.add('b', sources.NoSource())
        self._wait_for_reports(2)
        self.assertEqual(5, self.client.tried)
        self.assertEqual(1, self.logs.output.count('Could not report host'))
        helpers.wait_until(lambda: 'accepts reports again' in self.logs.output)

    def test_unexpected_exception_affects_one_host(self):
        self.client.failures, self.client.error = 1, KeyError('a test')
        made = self._reporter()
        made.add('a', sources.NoSource())
        helpers.wait_until(lambda: self.client.tried)
        made.add('b', sources.NoSource())
        self._wait_for_reports(1)
        self.assertEqual([('b', None)], self.client.reports)

    def test_removed_host_is_not_reported(self):
        made = self._reporter(interval=0.01)
        made.add('a', sources.NoSource())
        self._wait_for_reports(1)
        made.remove('a')
        made.add('b', sources.NoSource())
        helpers.wait_until(lambda: ('b', None) in self.client.reports)
        since = len(self.client.reports)
        self._wait_for_reports(since + 3)
        self.assertEqual({('b', None)}, set(self.client.reports[since:]))

    def test_change_during_a_report_is_reported(self):
        source, entered, release = Source('s'), threading.Event(), threading.Event()
        report = self.client.report

        def slow(ctxt, host, servers, token):
            entered.set()
            release.wait(helpers.PATIENCE)
            return report(ctxt, host, servers, token)

        self.client.report = slow
        made = self._reporter()
        made.add('a', source)
        self.assertTrue(entered.wait(helpers.PATIENCE))
        source.now = {'t'}
        made.changed('a')
        release.set()
        self._wait_for_reports(2)
        self.assertEqual(('a', frozenset('t')), self.client.reports[-1])

    def test_change_while_the_source_is_read_is_reported(self):
        made = self._reporter()

        class Changing(Source):
            def servers(self, host):
                answer = set(self.now)
                if self.now == {'s'}:
                    self.now = {'t'}
                    made.changed(host)
                return answer

        made.add('a', Changing('s'))
        self._wait_for_reports(2)
        self.assertEqual([('a', frozenset('s')), ('a', frozenset('t'))], self.client.reports)


class TestTokens(ReporterCase):
    def test_reports_are_refused_until_the_token_arrives(self):
        self.client.required = 'token-a'
        made = self._reporter()
        made.add('a', Source('s'))
        helpers.wait_until(lambda: self.client.tokens == [('a', '')])
        made.take_token('b', 'token-b')
        made.take_token('a', 'token-a')
        self._wait_for_reports(1)
        self.assertEqual([('a', frozenset('s'))], self.client.reports)
        self.assertEqual([('a', ''), ('a', 'token-a')], self.client.tokens)

    def test_token_may_arrive_before_its_host_is_added(self):
        self.client.required = 'token'
        made = self._reporter()
        made.take_token('a', 'token')
        made.add('a', Source('s'))
        self._wait_for_reports(1)
        self.assertEqual([('a', 'token')], self.client.tokens)

    def test_token_may_arrive_before_the_answer(self):
        self.client.required = 'token'
        report = self.client.report
        made = self._reporter()

        def early(ctxt, host, servers, token):
            made.take_token(host, 'token')
            return report(ctxt, host, servers, token)

        self.client.report = early
        made.add('a', Source('s'))
        self._wait_for_reports(1)
        self.assertEqual([('a', ''), ('a', 'token')], self.client.tokens)

    def test_new_token_is_used_for_the_next_report(self):
        made = self._reporter(interval=0.05)
        made.add('a', sources.NoSource())
        self._wait_for_reports(1)
        made.take_token('a', 'token')
        helpers.wait_until(lambda: ('a', 'token') in self.client.tokens)

    def test_host_without_a_token_does_not_stop_other_hosts_and_is_retried(self):
        self.useFixture(fixtures.MonkeyPatch('external_events_router.agent.reporter.TOKEN_PAUSE', 0.01))
        self.useFixture(fixtures.MonkeyPatch('external_events_router.throttled_log.GATHER', 0.0))
        self.client.required = 'token-b'
        made = self._reporter()
        made.add('a', Source('s'))
        made.add('b', Source('s'))
        made.take_token('b', 'token-b')
        self._wait_for_reports(1)
        helpers.wait_until(lambda: self.client.tokens.count(('a', '')) > 5)
        self.assertEqual(['b'], [host for host, _servers in self.client.reports])
        self.assertEqual(1, self.logs.output.count('The reports of host a are refused'))
        self.assertNotIn('Could not report host', self.logs.output)

    def test_stop_logs_a_refusal_that_was_not_logged_yet(self):
        self.useFixture(fixtures.MonkeyPatch('external_events_router.agent.reporter.TOKEN_PAUSE', 0.01))
        self.useFixture(fixtures.MonkeyPatch('external_events_router.throttled_log.GATHER', 1e6))
        self.client.required = 'token'
        made = self._reporter()
        made.add('a', Source('s'))
        helpers.wait_until(lambda: self.client.tokens.count(('a', '')) > 5)
        self.assertNotIn('are refused', self.logs.output)
        made.stop()
        self.assertIn('The reports of host a are refused', self.logs.output)
