"""Alert rules and metrics with a real Prometheus, and with promtool."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
import time

import fixtures
import yaml

from tests import base
from tests.integration import alert_cases
from tests.integration import deployment
from tests.integration import monitoring
from tests.integration import services
from tests.unit.metrics import fixtures as metrics_fixtures

SERVERS = {f'{number:08x}-0000-4000-8000-000000000000': [f'compute-{number % 4}'] for number in range(1, 9)}


class RulesTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def rules(self):
        groups = yaml.safe_load(monitoring.RULES.read_text())['groups']
        return [rule['alert'] for group in groups for rule in group['rules']]

    def test_promtool_accepts_the_rules(self):
        done = monitoring.promtool('check', 'rules', monitoring.RULES)
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_promtool_accepts_the_sample_of_a_configuration(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        sample = (monitoring.FOLDER / 'prometheus.yaml').read_text()
        named = '/etc/prometheus/external-events-router-rules.yaml'
        self.assertIn(named, sample)
        (folder / 'prometheus.yaml').write_text(sample.replace(named, str(monitoring.RULES)))
        done = monitoring.promtool('check', 'config', folder / 'prometheus.yaml')
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)

    def test_every_rule_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(self):
        cases = list(alert_cases.all_cases())
        for fires in (True, False):
            self.assertEqual(
                set(self.rules()),
                {case.alert for case in cases if case.fires is fires} - {'none'},
                f'fires: {fires}',
            )

    def run_cases(self, cases):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        tests = {
            'rule_files': [str(monitoring.RULES)],
            'evaluation_interval': '1m',
            'tests': [case.test() for case in cases],
        }
        (folder / 'tests.yaml').write_text(yaml.safe_dump(tests))
        return monitoring.promtool('test', 'rules', folder / 'tests.yaml')

    def test_rules_fire_and_do_not_fire(self):
        done = self.run_cases(alert_cases.all_cases())
        self.assertEqual(0, done.returncode, (done.stdout + done.stderr)[:4000])

    def test_a_case_that_expects_the_opposite_fails(self):
        case = next(each for each in alert_cases.all_cases() if each.alert == 'ExternalEventsHeldOld')
        opposite = alert_cases.Case(case.alert, case.series, case.at, fires=not case.fires)
        self.assertNotEqual(0, self.run_cases([opposite]).returncode)


class PrometheusTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        monitoring.find('prometheus')
        folder = self.useFixture(services.Folder()).path
        self.router = self.useFixture(
            monitoring.Monitored(
                transport_url=self.useFixture(services.RabbitMQ()).url,
                connection=f'sqlite:///{folder}/router.sqlite',
                hosts=sorted({host for hosts in SERVERS.values() for host in hosts}),
                hosts_of=SERVERS,
                api__workers=2,
                resolver__workers=1,
                delivery__ack_timeout=1.0,
            )
        )

    def load(self):
        """Post batches until the test has ended."""
        stopping = threading.Event()

        def post():
            while not stopping.wait(0.05):
                self.posted += 1
                self.router.post(*({'name': 'network-changed', 'server_uuid': server} for server in SERVERS))

        self.posted = 0
        thread = threading.Thread(target=post, daemon=True)
        thread.start()
        self.addCleanup(thread.join, deployment.PATIENCE)
        self.addCleanup(stopping.set)

    def test_alert_fires_and_clears(self):
        prometheus = self.useFixture(
            monitoring.Prometheus(self.router.targets, rules=monitoring.fast_rules())
        )
        self.load()
        wanted = set(self.router.targets)
        deployment.wait_until(lambda: prometheus.healthy_targets() == wanted, 'targets')
        events = 'sum(rate(external_events_total{code="200"}[5s]))'
        deployment.wait_until(lambda: (prometheus.value(events) or 0) > 0, 'events')
        deployment.wait_until(lambda: not prometheus.firing(), 'no alerts')
        os.kill(self.router.agents.pid, signal.SIGKILL)
        deployment.wait_until(
            lambda: 'ExternalEventsBreakersOpen' in prometheus.firing(), 'the alert while no agent runs'
        )
        deployment.wait_until(
            lambda: (prometheus.value('max(external_events_held{state="held"})') or 0) > 0, 'held events'
        )
        self.router.agents.process.wait(deployment.PATIENCE)
        self.router.agents.start()
        deployment.wait_until(
            lambda: 'ExternalEventsBreakersOpen' not in prometheus.firing(), 'the end of the alert'
        )
        deployment.wait_until(
            lambda: prometheus.value('sum(external_events_ended_total{state="delivered"})') or 0,
            'redelivered events',
        )
        self.assertEqual(0, prometheus.value('sum(external_events_ended_total{state="expired"})'))

    def samples(self, name='api'):
        return metrics_fixtures.samples(self.router.read(name))

    def test_counters_survive_reloads_and_killed_workers(self):
        answered = 'external_events_total', frozenset({('name', 'network-changed'), ('code', '200')})
        batch = [{'name': 'network-changed', 'server_uuid': server} for server in SERVERS]
        for _ in range(10):
            self.assertEqual(200, self.router.post(*batch)[0])
        self.assertEqual(10.0 * len(batch), self.samples()[answered])
        workers = 'external_events_workers', frozenset()
        starts = 'external_events_worker_starts_total', frozenset()
        before = self.samples()[starts]
        os.kill(self.router.api.pid, signal.SIGHUP)
        deployment.wait_until(
            lambda: self.samples()[starts] == before + 2 and self.samples()[workers] == 2, 'new workers'
        )
        for pid in services.children(self.router.api.pid)[-2:]:
            services.kill(pid)
        deployment.wait_until(
            lambda: self.samples()[starts] >= before + 3 and self.samples()[workers] == 2, 'workers again'
        )
        self.router.wait_for_api()
        self.assertEqual(10.0 * len(batch), self.samples()[answered])

    def test_process_metrics_and_damaged_files(self):
        found = self.samples()
        slots = {dict(labels)['slot'] for name, labels in found if name == 'process_start_time_seconds'}
        self.assertEqual(2, len(slots))
        for slot in slots:
            labels = frozenset({('slot', slot)})
            self.assertGreater(found['process_resident_memory_bytes', labels], 10_000_000)
            self.assertLess(abs(time.time() - found['process_start_time_seconds', labels]), 600)
        (self.router.folder / 'metrics' / 'api' / 'counter_9.db').write_bytes(b'damaged')
        self.assertEqual(1.0, self.samples()['external_events_metrics_unreadable_files', frozenset()])
        self.router.api.wait_for('counter_9.db is left out')

    def test_resolver_reports_its_worker_and_the_hold(self):
        found = self.samples('resolver')
        self.assertEqual(1.0, found['external_events_workers', frozenset()])
        self.assertEqual(1.0, found['external_events_workers_configured', frozenset()])
        self.assertNotIn('external_events_requests_total', {name for name, _labels in found})
        self.assertEqual(1.0, found['external_events_broker_up', frozenset()])
        deployment.wait_until(
            lambda: self.samples('resolver').get(('external_events_database_up', frozenset())) == 1.0,
            'the numbers of held events',
        )

    def test_agent(self):
        command = [deployment.BIN / 'external-events-agent', '--config-file', self.router.agent_config]
        agent = self.useFixture(
            deployment.Process('agent', [*command, '--host', 'compute-9'], self.router.folder)
        )
        agent.wait_for('Agent of host compute-9 started')
        accepted = 'external_events_agent_reports_total', frozenset({('result', 'accepted')})
        deployment.wait_until(lambda: self.samples('agent')[accepted] >= 1, 'a report')
        self.router.import_hosts({'00000099-0000-4000-8000-000000000000': ['compute-9']})
        event = {'name': 'network-changed', 'server_uuid': '00000099-0000-4000-8000-000000000000'}
        self.assertEqual((200, [200]), self.router.post(event))
        handled = 'external_events_agent_events_total', frozenset({('result', 'handled')})
        deployment.wait_until(lambda: self.samples('agent')[handled] == 1, 'the event')
