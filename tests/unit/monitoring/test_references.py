"""Rules, panels, documentation and code have the same metrics."""

from __future__ import annotations

import json
import pathlib
import re

import yaml

from external_events_router.metrics import catalogue
from tests import base
from tools import dashboard
from tools import panels

ROOT = pathlib.Path(__file__).parents[3]
FOLDER = ROOT / 'etc/external-events-router/monitoring'
PAGE = ROOT / 'doc/source/admin/monitoring.rst'

#: Metrics of Prometheus itself.
THEIRS = {'up'}

_SELECTOR = re.compile(r'\b((?:external_events|process)_[a-z_]+|up)\b(?:\{([^}]*)\})?')
_MATCHER = re.compile(r'([a-z_]+)(=~|!=|=)"([^"]*)"')


def samples():
    """Name of each sample to its metric."""
    found = {}
    for metric in catalogue.ALL:
        suffixes = ('_bucket', '_sum', '_count') if metric.kind is catalogue.Kind.HISTOGRAM else ('',)
        found.update((metric.name + suffix, metric) for suffix in suffixes)
    return found


def rules():
    groups = yaml.safe_load((FOLDER / 'rules.yaml').read_text())['groups']
    return [rule for group in groups for rule in group['rules']]


def expressions():
    """Every expression of the rules and panels, with its place."""
    for rule in rules():
        yield rule['alert'], rule['expr']
    for row in panels.ROWS:
        for panel in row.panels:
            for query in panel.queries:
                yield panel.title, query.expression


def problems(expression):
    """What is wrong with the metrics and labels of an expression."""
    known = samples()
    for name, matchers in _SELECTOR.findall(expression):
        if name in THEIRS:
            continue
        if name not in known:
            yield f'{name} does not exist'
            continue
        labels = {**known[name].labels, 'job': (), 'instance': ()}
        for label, operator, value in _MATCHER.findall(matchers):
            if label == 'le' and name.endswith('_bucket'):
                continue
            if label not in labels:
                yield f'{name} has no label {label}'
            elif labels[label] and operator != '=~' and value not in labels[label]:
                yield f'{name} has no {label} {value}'
            elif labels[label] and operator == '=~':
                missing = set(value.split('|')) - set(labels[label])
                if missing:
                    yield f'{name} has no {label} {sorted(missing)}'


class ReferencesTest(base.TestCase):
    def test_rules_and_panels_use_metrics_and_labels_that_exist(self):
        found = [f'{place}: {text}' for place, each in expressions() for text in problems(each)]
        self.assertEqual([], found)

    def test_the_check_finds_what_does_not_exist(self):
        for expression, problem in (
            ('external_events_unknown_total', 'does not exist'),
            ('external_events_total{color="red"}', 'no label color'),
            ('external_events_total{code="201"}', 'no code 201'),
            ('external_events_requests_total{status=~"401|402"}', "no status ['402']"),
            ('rate(external_events_lookup_seconds[5m])', 'does not exist'),
        ):
            self.assertIn(problem, ' '.join(problems(expression)), expression)

    def test_every_metric_is_in_a_panel_or_a_rule(self):
        text = ' '.join(each for _place, each in expressions())
        used = {name for name, _matchers in _SELECTOR.findall(text)}
        unused = [metric.name for sample, metric in samples().items() if sample in used]
        left = {metric.name for metric in catalogue.ALL} - set(unused)
        # The numbers behind a share, and what the size of a process consists of.
        self.assertEqual({'process_virtual_memory_bytes'}, left)

    def test_every_rule_has_a_meaning_and_a_remedy(self):
        for rule in rules():
            self.assertIn(rule['labels']['severity'], ('warning', 'critical'), rule['alert'])
            for part in ('summary', 'consequence', 'command'):
                self.assertGreater(len(rule['annotations'].get(part, '')), 10, (rule['alert'], part))

    def test_commands_of_rules_exist(self):
        from external_events_router.cmd import manage

        for rule in rules():
            command = rule['annotations']['command']
            if command.startswith('external-events-manage '):
                words = command.split()[1:3]
                self.assertIn(' '.join(words), manage.COMMANDS, rule['alert'])

    def test_page_describes_every_metric_and_alert(self):
        text = PAGE.read_text()
        for metric in catalogue.ALL:
            self.assertIn(f'``{metric.name}``', text)
        for rule in rules():
            self.assertIn(f'``{rule["alert"]}``', text)

    def test_labels_have_closed_value_sets(self):
        # Their values come from the configuration, or number the workers.
        of_configuration = {'option', 'version', 'slot'}
        for metric in catalogue.ALL:
            for label, values in metric.labels.items():
                self.assertEqual(label in of_configuration, not values, (metric.name, label))
        series = sum(len(list(metric.series())) for metric in catalogue.STORED)
        self.assertLess(series, 250)

    def test_help_of_each_metric_is_a_sentence(self):
        for metric in catalogue.ALL:
            self.assertRegex(metric.help, r'^[A-Z0-9].{20,}[.]$', metric.name)


class DashboardTest(base.TestCase):
    def test_file_in_the_tree_is_generated_from_the_panels(self):
        self.assertEqual(dashboard.text(), dashboard.FILE.read_text())
        self.assertEqual(0, dashboard.main(['--check']))

    def test_every_panel_is_in_the_dashboard_once(self):
        made = json.loads(dashboard.text())
        titles = [panel['title'] for panel in made['panels'] if panel['type'] == 'timeseries']
        self.assertEqual([panel.title for row in panels.ROWS for panel in row.panels], titles)
        self.assertEqual(len(set(titles)), len(titles))
        numbers = [panel['id'] for panel in made['panels']]
        self.assertEqual(len(set(numbers)), len(numbers))

    def test_panels_do_not_overlap(self):
        taken = set()
        for panel in json.loads(dashboard.text())['panels']:
            place = panel['gridPos']
            cells = {
                (x, y)
                for x in range(place['x'], place['x'] + place['w'])
                for y in range(place['y'], place['y'] + place['h'])
            }
            self.assertEqual(set(), cells & taken, panel['title'])
            taken |= cells
