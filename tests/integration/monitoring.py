"""Prometheus beside a deployment, and a deployment whose services are monitored."""

from __future__ import annotations

import fcntl
import json
import pathlib
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request

import fixtures
import yaml

from tests.integration import deployment
from tests.integration import services

FOLDER = deployment.ROOT / 'etc/external-events-router/monitoring'
RULES = FOLDER / 'rules.yaml'

#: Seconds for one run of promtool.
TOOL_TIMEOUT = 300


#: Seconds for the download of the package.
DOWNLOAD_TIMEOUT = 300


def find(program):
    """The path of a program of Debian's package prometheus.

    The package need not be installed: without it, its programs, which need only the C library,
    are unpacked to a cache.
    """
    installed = shutil.which(program)
    if installed:
        return installed
    at = services.CACHE / 'prometheus'
    at.parent.mkdir(parents=True, exist_ok=True)
    with open(at.parent / 'prometheus.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (at / 'usr/bin' / program).exists():
            _unpack(program, at)
    return str(at / 'usr/bin' / program)


def _unpack(program, at):
    """Unpack the package to a folder, at once or not at all."""
    if shutil.which('apt-get') is None:
        services.missing(program, 'install the package prometheus')
    with tempfile.TemporaryDirectory(dir=at.parent) as folder:
        _run(['apt-get', 'download', 'prometheus'], folder=folder)
        (package,) = pathlib.Path(folder).glob('prometheus_*.deb')
        _run(['dpkg-deb', '-x', package, pathlib.Path(folder) / 'root'], folder=folder)
        shutil.rmtree(at, ignore_errors=True)
        (pathlib.Path(folder) / 'root').rename(at)


def _run(command, *, folder):
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=DOWNLOAD_TIMEOUT,
    )
    if done.returncode:
        services.missing("Debian's package prometheus", f'{command[0]} failed: {done.stderr.strip()[-300:]}')


def promtool(*arguments):
    """Run promtool.

    :returns: the completed process, with text
    """
    return subprocess.run(
        [find('promtool'), *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TOOL_TIMEOUT,
    )


class Prometheus(fixtures.Fixture):
    """A server that reads targets every second.

    :ivar url: of its API
    """

    def __init__(self, targets, *, rules=None):
        """:param targets: job to ``host:port``
        :param rules: content of a file of rules
        """
        self._targets = targets
        self._rules = rules

    def _setUp(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        port = deployment.free_port()
        self.url = f'http://127.0.0.1:{port}'
        (folder / 'rules.yaml').write_text(yaml.safe_dump(self._rules or {'groups': []}))
        (folder / 'prometheus.yaml').write_text(yaml.safe_dump(self._configuration()))
        command = [
            find('prometheus'),
            f'--config.file={folder}/prometheus.yaml',
            f'--storage.tsdb.path={folder}/data',
            f'--web.listen-address=127.0.0.1:{port}',
        ]
        self.process = self.useFixture(deployment.Process('prometheus', command, folder))
        deployment.wait_until(self._is_ready, 'Prometheus')

    def _configuration(self):
        return {
            'global': {'scrape_interval': '1s', 'evaluation_interval': '1s'},
            'rule_files': ['rules.yaml'],
            'scrape_configs': [
                {'job_name': job, 'static_configs': [{'targets': [target]}]}
                for job, target in self._targets.items()
            ],
        }

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f'{self.url}/-/ready', timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def ask(self, path, **parameters):
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f'{self.url}/api/v1/{path}?{query}', timeout=30) as response:
            return json.load(response)['data']

    def value(self, expression):
        """The value of an expression with one series; None: it has none."""
        found = self.ask('query', query=expression)['result']
        return float(found[0]['value'][1]) if found else None

    def firing(self):
        """The names of the alerts that fire."""
        return {
            alert['labels']['alertname']
            for alert in self.ask('alerts')['alerts']
            if alert['state'] == 'firing'
        }

    def healthy_targets(self):
        """The jobs whose target answers."""
        found = self.ask('targets', state='active')['activeTargets']
        return {target['labels']['job'] for target in found if target['health'] == 'up'}


class Monitored(deployment.Deployment):
    """A deployment whose API and resolver serve metrics.

    :ivar targets: job to ``host:port``
    """

    def start(self):
        """Start the services, each with a port and files of its own."""
        configs = {name: self.monitored_config(name) for name in ('api', 'resolver', 'agent')}
        self.targets = {
            f'external-events-{name}': f'127.0.0.1:{self.ports[name]}' for name in ('api', 'resolver')
        }
        self.resolver = self.start_resolver(config=configs['resolver'])
        self.agents = self.start_agents('agents', *self.hosts) if self.hosts else None
        self.api = self.start_api(config=configs['api'])
        self.agent_config = configs['agent']

    def monitored_config(self, name):
        """The configuration of a service, with metrics."""
        self.ports = {**getattr(self, 'ports', {}), name: deployment.free_port()}
        return self.write_config(
            f'{name}.conf', metrics__bind_port=self.ports[name], metrics__directory=self.folder / 'metrics'
        )

    def read(self, name):
        """The metrics of a service, as text."""
        with urllib.request.urlopen(f'http://127.0.0.1:{self.ports[name]}/metrics', timeout=30) as response:
            return response.read().decode()


def fast_rules():
    """The rules of the tree, but alerts wait for one second only."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules['groups']:
        for rule in group['rules']:
            if 'for' in rule:
                rule['for'] = '1s'
    return rules
