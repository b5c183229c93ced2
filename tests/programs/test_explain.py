"""``external-events-manage explain`` and ``events``; the verdicts are in tests/unit/journal."""

import csv
import dataclasses
import io
import json
import signal
import subprocess
import sys
import time

import yaml

from external_events_router.journal import records
from tests import base
from tests.programs import test_manage
from tests.unit.db import databases
from tests.unit.journal import histories as h
from tests.unit.journal import stored

UNKNOWN = '00000009-0000-4000-8000-000000000000'


class JournalTestCase(test_manage.ManageTestCase):
    TIMEOUT_SCALING_FACTOR = 3

    def setUp(self):
        super().setUp()
        self.database = databases.database(f'sqlite:///{self.folder}/router.db')
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)
        self.now = int(time.time()) * records.SECOND

    def add(self, *rows):
        """Rows that were written with times after ``h.START``, in the last half an hour."""
        moved = []
        for row in rows:
            shift = self.now - 1800 * records.SECOND - h.START
            name = 'received_at' if isinstance(row, records.EventRow) else 'at'
            fields = {name: getattr(row, name) + shift}
            if isinstance(row, records.EventRow):
                fields['request'] = dataclasses.replace(
                    row.request, received_at=fields[name], seq=row.seq, request_id=f'req-{row.seq}'
                )
            moved.append(dataclasses.replace(row, **fields))
        stored.add(self.database, *moved)


class TestExplain(JournalTestCase):
    def test_exit_status_is_that_of_the_verdict(self):
        stored.add_worker(self.database)
        self.add(
            h.event(10, handling=h.HANDLED),
            h.event(20, 'held_no_queue', name='network-changed', event_id='event-2', tag=None),
        )
        delivered, held, never, *wrong = self.manage(
            f'explain {h.SERVER} --port {h.PORT} -f json',
            f'explain {h.SERVER.upper()} --name network-changed',
            f'explain {UNKNOWN} --since 45m -f yaml',
            f'explain {h.SERVER} --name nonsense',
            'explain nonsense',
            f'explain {h.SERVER} --since yesterday',
        )
        self.assertEqual([0, 3, 4], [delivered[0], held[0], never[0]])
        document = json.loads(delivered[1])
        self.assertEqual(('delivered', 0), (document['verdict'], document['exit_status']))
        self.assertEqual(2.0, document['timeline'][1]['relative'])
        self.assertEqual('never_posted', yaml.safe_load(never[1])['verdict'])
        for part in (
            '| network-changed ',
            'Verdict: held_no_queue',
            'Next step: Check that external-events-agent runs',
            '  on host-a: systemctl status external-events-agent',
        ):
            self.assertIn(part, held[1])
        self.assertEqual([2, 1, 2], [answer[0] for answer in wrong])
        self.assertIn('no event has the name', wrong[0][2])

    def test_incomplete_record(self):
        stored.add_worker(self.database, started=60.0)
        (answer,) = self.manage(f'explain {UNKNOWN}')
        self.assertEqual(5, answer[0], answer)
        self.assertIn('no worker was running', answer[1])

    def test_period_in_the_future(self):
        stored.add_worker(self.database)
        later = self.now // records.SECOND + 3600
        answers = self.manage(
            f'explain {UNKNOWN} --since {later}',
            f'explain {UNKNOWN} --at {later}',
            f'explain {UNKNOWN} --since 0s',
        )
        for answer in answers:
            self.assertIn('use an earlier --since or --at', self.refused(answer))

    def test_time_of_the_event(self):
        stored.add_worker(self.database)
        self.add(h.event(0, 'unknown_server'))
        at = (self.now // records.SECOND) - 1800
        around, before = self.manage(
            f'explain {h.SERVER} --at {at} -f json', f'explain {h.SERVER} --at {at - 3600} -f json'
        )
        self.assertEqual((3, 'unknown_server'), (around[0], json.loads(around[1])['verdict']))
        self.assertEqual((4, 'never_posted'), (before[0], json.loads(before[1])['verdict']))

    def test_characters_of_other_services_are_escaped(self):
        stored.add_worker(self.database)
        self.add(h.event(0, 'handler_failed', tag='\x1b[2Jport', detail='a\u202eb'))
        (answer,) = self.manage(f'explain {h.SERVER}')
        self.assertIn('\\x1b[2Jport', answer[1])
        self.assertNotIn('\x1b', answer[1])
        self.assertNotIn('\u202e', answer[1])


class TestWorkers(JournalTestCase):
    def test_silent_worker_is_ended_by_an_operator(self):
        stored.add_worker(self.database)
        stored.add_worker(self.database, name='removed:0', age=900.0, last_seen_at=self.now - 900_000_000)
        listed, incomplete, running, ended, again, complete = self.manage(
            'journal workers -f json',
            f'explain {UNKNOWN} --since 5m',
            'journal end-worker 1',
            'journal end-worker 2',
            'journal end-worker 2',
            f'explain {UNKNOWN} --since 0.01s',
        )
        workers = {worker['id']: (worker['name'], worker['state']) for worker in json.loads(listed[1])}
        self.assertEqual({1: ('controller:1', 'running'), 2: ('removed:0', 'silent')}, workers)
        self.assertEqual(5, incomplete[0], incomplete)
        self.assertIn('run "external-events-manage journal end-worker 2"', incomplete[1])
        self.assertIn('no silent worker has the id 1', self.refused(running))
        self.assertEqual([0, ''], list(ended[:2]))
        self.refused(again)
        self.assertNotIn('removed:0', complete[1])


class TestEvents(JournalTestCase):
    def setUp(self):
        super().setUp()
        self.add(
            h.event(10, handling=h.HANDLED, event_id='delivered'),
            h.event(20, 'held_no_queue', event_id='expired', tag='port-2', hosts=('host-a', 'host-b')),
            h.event(30, 'held_no_queue', event_id='held', name='network-changed', tag=None),
            h.event(40, 'unknown_server', event_id='failed', server_uuid=UNKNOWN, hosts=()),
            h.step(320, 'expired', event_id='expired'),
        )

    def listed(self, answer):
        self.assertEqual(0, answer[0], answer)
        return [row['event'] for row in json.loads(answer[1])]

    def test_filters(self):
        expected = {
            '': ['failed', 'held', 'expired', 'delivered'],
            '--oldest-first': ['delivered', 'expired', 'held', 'failed'],
            f'--server {UNKNOWN}': ['failed'],
            '--port port-2': ['expired'],
            '--host host-a': ['held', 'expired', 'delivered'],
            '--code 404 --code 422': ['failed'],
            '--name network-changed': ['held'],
            '--sender neutron': ['failed', 'held', 'expired', 'delivered'],
            '--sender cinder': [],
            '--request req-sender --state delivered': ['delivered'],
            '--request req-30001': ['held'],
            '--state held': ['held'],
            '--state expired': ['expired'],
            '--state failed': ['failed'],
            '--state dropped': [],
            '--since 1m': [],
            '--until 1h': [],
        }
        answers = self.manage(*(f'events list -f json {options}' for options in expected))
        self.assertEqual(list(expected.values()), [self.listed(answer) for answer in answers])

    def test_pages(self):
        (first,) = self.manage('events list -f csv --limit 2 --long')
        rows = list(csv.DictReader(io.StringIO(first[1])))
        self.assertEqual(['failed', 'held'], [row['event'] for row in rows])
        self.assertEqual(f'Listed 2 events; for more add --marker {rows[-1]["marker"]}\n', first[2])
        second, wrong = self.manage(
            f'events list -f json --limit 9 --marker {rows[-1]["marker"]}', 'events list --marker nonsense'
        )
        self.assertEqual((['expired', 'delivered'], ''), (self.listed(second), second[2]))
        self.assertEqual(2, wrong[0])

    def test_show(self):
        shown, unknown = self.manage('events show expired -f json', 'events show nonsense')
        rows = json.loads(shown[1])
        self.assertEqual(['received', 'answered', 'step'], [row['kind'] for row in rows])
        self.assertEqual(300.0, rows[-1]['seconds'])
        self.assertIn('no event nonsense', self.refused(unknown))

    def test_event_with_many_attempts(self):
        attempts = [h.step(40 + number / 10, 'attempt', event_id='held') for number in range(1005)]
        self.add(*attempts, h.step(300, 'expired', event_id='held'))
        listed, shown = self.manage('events list --state held -f json', 'events show held -f json')
        self.assertEqual([], self.listed(listed))
        steps = [row for row in json.loads(shown[1]) if row['kind'] == 'step']
        self.assertEqual((1006, 'expired'), (len(steps), steps[-1]['what_happened']))

    def test_tail_shows_an_event_that_a_slow_worker_writes_late(self):
        stored.add_worker(self.database, age=60.0)
        process = self.tail('--since', '1h')
        for _ in range(4):
            process.stdout.readline()
        age = time.time() - self.now / records.SECOND
        self.add(h.event(1770 + age, 'no_host', event_id='late', tag='=1+1'))
        cells = process.stdout.readline().split(',')
        self.assertEqual(('late', "'=1+1"), (cells[1], cells[3]))

    def tail(self, *options):
        command = [sys.executable, '-c', test_manage.SCRIPT, '--config-file', str(self.config)]
        process = subprocess.Popen(
            [*command, 'events', 'tail', *options, '-f', 'csv'],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=base.allow_interrupts,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_tail(self):
        text, lines = self.manage(
            'events tail --since 1h --for 0s', 'events tail --since 1h --for 0s -f json'
        )
        self.assertEqual(
            ['delivered', 'expired', 'held', 'failed'], [line.split()[1] for line in text[1].splitlines()]
        )
        self.assertEqual(
            ['delivered', 'expired', 'held', 'failed'],
            [json.loads(line)['state'] for line in lines[1].splitlines()],
        )

    def test_tail_follows_and_ends_with_an_interrupt(self):
        process = self.tail('--since', '1h')
        for event in ('delivered', 'expired', 'held', 'failed'):
            self.assertEqual(event, process.stdout.readline().split(',')[1])
        # NOTE: tail reads the last seconds only.
        age = time.time() - self.now / records.SECOND
        self.add(h.event(1799.5 + age, 'no_host', event_id='late'))
        self.assertEqual('late', process.stdout.readline().split(',')[1])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        self.assertEqual((0, '', ''), (process.returncode, out, err))


class TestReplay(JournalTestCase):
    def test_numbers_come_first(self):
        self.config.write_text(self.config.read_text() + '[delivery]\nevent_ttls = network-changed:3600\n')
        self.add(
            h.event(10, event_id='late', handling=h.HANDLED),
            h.event(20, event_id='due', name='network-changed', tag=None),
            h.event(30, 'held_no_queue', event_id='held', name='network-changed', tag=None),
            h.event(40, event_id='elsewhere', server_uuid=UNKNOWN, hosts=('host-b',)),
        )
        dry, unsure, forced, nothing, without = self.manage(
            'replay --host host-a --since 1h --dry-run -f json',
            'replay --host host-a --since 1h',
            f'replay --server {UNKNOWN} --since 1h --force',
            f'replay --server {UNKNOWN} --since 1h --name network-changed -f json',
            'replay --since 1h',
        )
        columns = ('name', 'sent', 'late', 'already_held')
        self.assertEqual(
            [('network-changed', 0, 0, 1), ('network-vif-plugged', 0, 1, 0)],
            [tuple(row[column] for column in columns) for row in json.loads(dry[1])],
        )
        numbers = 'network-changed: 1 due, 0 past their deadline, 1 held\n'
        self.assertEqual((1, True), (unsure[0], unsure[2].startswith(numbers)), unsure)
        self.assertIn('add --yes', unsure[2])
        self.assertEqual((1, True), (forced[0], 'add --yes' in forced[2]), forced)
        self.assertEqual([0, '[]'], [nothing[0], nothing[1].strip()])
        self.assertEqual(2, without[0])
