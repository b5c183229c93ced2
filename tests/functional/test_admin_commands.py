"""The admin API and ``external-events-manage`` give the same results for the same database."""

import contextlib
import io
import json

from external_events_router.cmd import manage
from external_events_router.cmd.manage import app as manage_app
from external_events_router.db import session
from tests import base
from tests.functional import admin
from tests.functional import fixtures

A, B, UNKNOWN = (f'0000000{letter}-0000-4000-8000-000000000000' for letter in 'abe')


class SameResultsTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        self.router = self.useFixture(
            fixtures.Router({A: ['host-a'], B: ['host-b']}, hosts=['host-a'], delivery__ack_timeout=2.0)
        )
        self.admin = self.useFixture(admin.Admin(self.router))
        for server, tag in ((A, 'port-0'), (B, 'port-1'), (UNKNOWN, 'port-2')):
            self.router.post(fixtures.event(server, 'network-vif-plugged', tag=tag))
        self.router.wait_until(lambda: len(self.admin.get('/events')['events']) == 3)
        # NOTE: a running redelivery would change the number of attempts between two reads.
        self.router.resolver.stop()

    def command(self, text):
        """The objects that a command prints as JSON."""
        out, err = io.StringIO(), io.StringIO()
        made = _App(self.router.conf, out, err)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            made.run(text.split())
        return json.loads(out.getvalue())

    def test_events(self):
        for filters in ('', 'server=' + A, 'state=failed', 'code=404', 'host=host-b', 'port=port-1'):
            options = ' '.join(f'--{each.replace("=", " ")}' for each in filters.split('&') if each)
            listed = self.command(f'events list --long -f json {options}')
            self.assertEqual(listed, self.admin.get(f'/events?{filters}' if filters else '/events')['events'])
        event = listed[0]['event']
        shown = self.command(f'events show {event} -f json')
        self.assertEqual(shown, self.admin.get(f'/events/{event}')['history'])

    def test_explain(self):
        for server in (A, B):
            told = self.command(f'explain {server} -f json')
            answered = self.admin.get(f'/servers/{server}/explain')
            for document in (told, answered):
                # NOTE: the period ends at the time of the question.
                for member in ('since', 'until'):
                    del document[member]
                document['timeline'] = [each for each in document['timeline'] if each['kind'] != 'gap']
            self.assertEqual(told, answered)

    def test_held_events(self):
        listed = self.command('held list --long -f json')
        self.assertEqual([B], [event['server'] for event in listed])
        self.assertEqual(listed, self.admin.get('/held')['held'])
        shown = self.command(f'held show {listed[0]["event"]} -f json')
        self.assertEqual(shown, self.admin.get(f'/held/{listed[0]["event"]}'))
        counted = self.command('held count -f json')
        preview = self.admin.request('POST', '/held/drop/preview', {}).json
        self.assertEqual(
            [tuple(kind.values()) for kind in counted], [tuple(kind.values()) for kind in preview['kinds']]
        )

    def test_hosts_and_host_map(self):
        listed = self.command('host list -f json')
        answered = self.admin.get('/hosts')['hosts']
        self.assertEqual(
            [(host['host'], host['servers'], host['held'], host['breakers_open']) for host in listed],
            [(host['host'], host['servers'], host['held'], host['breakers_open']) for host in answered],
        )
        self.assertEqual(
            [host['problem'] for host in listed], [', '.join(host['problems']) for host in answered]
        )
        self.assertEqual(self.command(f'host-map show {A} -f json'), self.admin.get(f'/host-map/{A}'))

    def test_actions_and_summary(self):
        (event,) = [held['event'] for held in self.admin.get('/held')['held']]
        self.command(f'held drop {event} -f json')
        self.admin.request('PUT', f'/host-map/{A}/hosts/host-b')
        listed, answered = self.command('actions list -f json'), self.admin.get('/actions')['actions']
        self.assertEqual(['host-map:assign', 'held:drop'], [action['action'] for action in listed])
        self.assertEqual({'events': [event]}, listed[1]['filter'])
        self.assertEqual(listed, [{column: action[column] for column in listed[0]} for action in answered])
        shown, summary = self.command('summary -f json'), self.admin.get('/summary')
        for member in ('time', 'sentence', 'held_oldest_seconds', 'journal_gaps'):
            del shown[member], summary[member]
        self.assertEqual(shown, summary)

    def test_doctor(self):
        checked = self.command('doctor -f json --check database-schema')
        answered = self.admin.get('/doctor')
        by_name = {check['check']: check for check in answered['checks']}
        for check in checked:
            self.assertEqual(check['status'], by_name[check['check']]['status'])

    def test_replay(self):
        counted = self.command('replay --host host-a --since 1h --dry-run -f json')
        body = {'since': '1h', 'dry_run': True}
        answered = self.admin.request('POST', '/hosts/host-a/replay', body).json
        self.assertEqual(
            [(row['name'], row['late'], row['already_held']) for row in counted],
            [(row['name'], row['late'], row['held']) for row in answered['names']],
        )


class _App(manage_app.ManageApp):
    """The command with the configuration of the test, which is in this process."""

    def __init__(self, conf, stdout, stderr):
        super().__init__(manage.COMMANDS, stdout=stdout, stderr=stderr)
        self._conf = conf

    def initialize_app(self, argv):
        """Read no files."""

    def open_database(self):
        return self.keep_open(session.Database.from_conf(self._conf))
