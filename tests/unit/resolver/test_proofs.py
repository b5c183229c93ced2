"""Tokens of reports: their verification, the limit of their number, and the log messages about them."""

import threading

import fixtures

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.resolver import proofs
from external_events_router.resolver import report_key
from tests import base
from tests.unit.db import databases

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
NOW = 1_800_000_000.0
EXPIRES = int(NOW) + 100


class TokenTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.token = proofs.make_token(KEY, 'host-a', EXPIRES)

    def left(self, token, host='host-a', key=KEY, now=NOW):
        return proofs.seconds_left(key, host, token, now)

    def test_token_is_valid_until_it_expires(self):
        self.assertEqual(100, self.left(self.token))
        self.assertEqual(1, self.left(self.token, now=EXPIRES - 1))
        self.assertIsNone(self.left(self.token, now=EXPIRES))
        self.assertIsNone(self.left(self.token, now=EXPIRES + 1))

    def test_token_of_another_host_or_key(self):
        for host in ('host-b', 'host-', 'host-a.', f'host-a/{EXPIRES}', ''):
            self.assertIsNone(self.left(self.token, host=host))
        self.assertIsNone(self.left(self.token, key=OTHER_KEY))

    def test_token_with_another_time(self):
        code = self.token.partition('.')[2]
        for expires in (
            str(EXPIRES + 1),
            f'0{EXPIRES}',
            f'+{EXPIRES}',
            f'{EXPIRES}.0',
            '9' * 20,
            '-1',
            '1e12',
            '',
        ):
            self.assertIsNone(self.left(f'{expires}.{code}'), expires)

    def test_damaged_token(self):
        for position in range(len(self.token)):
            for character in 'A0.-':
                damaged = f'{self.token[:position]}{character}{self.token[position + 1 :]}'
                if damaged != self.token:
                    self.assertIsNone(self.left(damaged), damaged)
        for damaged in (
            '',
            '.',
            self.token[:-1],
            f'{self.token}=',
            f'{self.token}A',
            f' {self.token}',
            f'{self.token}\n',
        ):
            self.assertIsNone(self.left(damaged), damaged)

    def test_values_of_other_types(self):
        for value in (
            None,
            3,
            1.5,
            True,
            [],
            {},
            b'token',
            'x' * 100_000,
            '\u0661.\u0661',
            '\ud800',
            f'\u0661{self.token}',
        ):
            self.assertIsNone(self.left(value), value)

    def test_agent_accepts_the_token(self):
        self.assertTrue(checks.is_id(self.token))
        self.assertTrue(checks.is_id(proofs.make_token(KEY, 'h' * 255, 10**12)))


class Sender:
    def __init__(self):
        self.tokens, self.error, self.knows = [], None, True

    def take_token(self, host, token):
        if self.error is not None:
            raise self.error
        if self.knows:
            self.tokens.append((host, token))
        return self.knows


class ProofsCase(base.TestCase):
    def setUp(self):
        super().setUp()
        self.sender, self.wall, self.clock = Sender(), NOW, 5.0
        self.key, self.reads = KEY, 0

    def read_key(self):
        self.reads += 1
        if self.key is None:
            raise exceptions.DatabaseUnavailable(reason='a test')
        return self.key

    def proofs(self, *, required=True, sender=None):
        return proofs.Proofs(
            self.read_key,
            sender or self.sender,
            required=required,
            wall=lambda: self.wall,
            monotonic=lambda: self.clock,
        )


class ProofsTest(ProofsCase):
    def test_token_is_sent_and_then_accepted_by_each_worker(self):
        worker, other = self.proofs(), self.proofs()
        self.assertFalse(worker.accepts('host-a', ''))
        ((host, token),) = self.sender.tokens
        self.assertEqual('host-a', host)
        for each in (worker, other):
            self.assertTrue(each.accepts('host-a', token))
            self.assertFalse(each.accepts('host-b', token))

    def test_agent_without_support_for_tokens_gets_none(self):
        self.assertFalse(self.proofs().accepts('host-a', None))
        self.assertTrue(self.proofs(required=False).accepts('host-a', None))
        self.assertEqual([], self.sender.tokens)

    def test_tokens_are_not_required(self):
        worker = self.proofs(required=False)
        for token in (None, '', 'damaged'):
            self.assertTrue(worker.accepts('host-a', token))
        self.assertEqual(['host-a'], [host for host, _token in self.sender.tokens])

    def test_one_token_per_period_for_each_host(self):
        worker = self.proofs()
        for _ in range(100):
            self.assertFalse(worker.accepts('host-a', 'damaged'))
            self.assertFalse(worker.accepts('host-b', ''))
        self.assertEqual(['host-a', 'host-b'], [host for host, _token in self.sender.tokens])
        self.clock += proofs.PAUSE
        worker.accepts('host-a', '')
        self.assertEqual(['host-a', 'host-b', 'host-a'], [host for host, _token in self.sender.tokens])

    def test_token_that_cannot_be_sent_is_not_immediately_sent_again(self):
        self.sender.error = exceptions.HostUnreachable(host='host-a')
        worker = self.proofs()
        self.assertFalse(worker.accepts('host-a', ''))
        self.sender.error = None
        self.assertFalse(worker.accepts('host-a', ''))
        self.assertEqual([], self.sender.tokens)

    def test_token_is_renewed_before_it_expires_and_refused_afterwards(self):
        worker = self.proofs()
        worker.accepts('host-a', '')
        token = self.sender.tokens[-1][1]
        self.clock += 1000
        self.wall += proofs.LIFETIME - proofs.RENEW - 1
        self.assertTrue(worker.accepts('host-a', token))
        self.assertEqual(1, len(self.sender.tokens))
        self.wall += 2
        self.assertTrue(worker.accepts('host-a', token))
        self.assertEqual(2, len(self.sender.tokens))
        self.wall += proofs.RENEW
        self.assertFalse(worker.accepts('host-a', token))
        self.assertTrue(worker.accepts('host-a', self.sender.tokens[-1][1]))

    def test_key_is_read_seldom_and_kept_while_the_database_is_unavailable(self):
        worker = self.proofs()
        worker.accepts('host-a', '')
        token = self.sender.tokens[-1][1]
        for _ in range(10):
            self.assertTrue(worker.accepts('host-a', token))
        self.assertEqual(1, self.reads)
        self.key = None
        self.clock += proofs.KEY_LIFETIME
        for _ in range(10):
            self.assertTrue(worker.accepts('host-a', token))
        self.assertEqual(2, self.reads)
        self.key = OTHER_KEY
        self.clock += proofs.KEY_PAUSE
        self.assertFalse(worker.accepts('host-a', token))
        self.assertTrue(worker.accepts('host-a', self.sender.tokens[-1][1]))

    def test_missing_key(self):
        self.key = None
        self.assertRaises(exceptions.DatabaseUnavailable, self.proofs().accepts, 'host-a', '')
        self.assertTrue(self.proofs(required=False).accepts('host-a', ''))

    def test_known_key_is_used_while_another_thread_reads_it_again(self):
        reading, go_on, read = threading.Event(), threading.Event(), self.read_key
        go_on.set()

        def slow():
            reading.set()
            go_on.wait(30.0)
            return read()

        self.read_key = slow
        worker = self.proofs()
        worker.accepts('host-a', '')
        token = self.sender.tokens[-1][1]
        go_on.clear()
        reading.clear()
        self.clock += proofs.KEY_LIFETIME
        thread = threading.Thread(target=worker.accepts, args=('host-a', token))
        thread.start()
        self.assertTrue(reading.wait(30.0))
        self.assertTrue(worker.accepts('host-a', token))
        go_on.set()
        thread.join(30.0)


class MessageTest(ProofsCase):
    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch('external_events_router.resolver.proofs.MAX_HOSTS', 50))

    def report_all(self, worker, hosts, token):
        for host in hosts:
            worker.accepts(host, token)

    def test_one_message_per_hour_with_the_number_of_hosts(self):
        worker = self.proofs(required=False)
        hosts = [f'host-{number}' for number in range(20)]
        for _ in range(3):
            self.report_all(worker, hosts, None)
        self.assertEqual('', self.logs.output)
        self.clock += proofs.FIRST_MESSAGE
        self.report_all(worker, hosts, None)
        self.assertEqual(1, self.logs.output.count('token: 20 (for example host-0, host-1, host-2)'))
        self.clock += proofs.EVERY - 1
        self.report_all(worker, hosts[:10], None)
        self.assertEqual(1, self.logs.output.count('require_report_token = true'))
        self.clock += 1
        self.report_all(worker, hosts[:1], None)
        self.assertEqual(2, self.logs.output.count('require_report_token = true'))

    def test_host_that_uses_its_token_is_not_counted(self):
        worker = self.proofs(required=False)
        worker.accepts('host-a', '')
        self.clock += proofs.FIRST_MESSAGE
        worker.accepts('host-a', self.sender.tokens[-1][1])
        worker.accepts('host-b', None)
        worker.accepts('host-b', None)
        self.clock += proofs.FIRST_MESSAGE
        worker.accepts('host-b', None)
        self.assertEqual(1, self.logs.output.count('without a valid token: 1 (for example host-b)'))
        self.assertNotIn('host-a', self.logs.output)

    def test_host_that_does_not_get_its_token_is_counted(self):
        worker = self.proofs()
        for _ in range(3):
            worker.accepts('host-a', '')
            self.clock += proofs.FIRST_MESSAGE
        self.assertEqual(1, self.logs.output.count('they have no valid token: 1 (for example host-a)'))

    def test_agents_that_may_not_receive_tokens_are_counted(self):
        self.sender.knows = False
        worker = self.proofs()
        worker.accepts('host-a', '')
        self.clock += proofs.FIRST_MESSAGE
        worker.accepts('host-a', '')
        self.assertIn('they have no valid token: 1 (', self.logs.output)

    def test_memory_for_names_is_bounded(self):
        worker = self.proofs()
        for number in range(1000):
            worker.accepts(f'host-{number}', '')
            worker.accepts(f'host-{number}', None)
        self.clock += proofs.FIRST_MESSAGE
        worker.accepts('host-0', None)
        self.assertIn('they have no valid token: 50 (', self.logs.output)


class KeyTest(base.TestCase):
    def setUp(self):
        super().setUp()
        folder = self.useFixture(fixtures.TempDir()).path
        self.database = databases.database(f'sqlite:///{folder}/router.db')
        self.addCleanup(self.database.close)

    def test_all_workers_have_the_same_key(self):
        databases.create_schema(self.database)
        keys, threads = set(), []
        for _ in range(4):
            read = report_key.ReportKey(self.database).read
            threads.append(threading.Thread(target=lambda read=read: keys.add(read())))
            threads[-1].start()
        for thread in threads:
            thread.join(30.0)
        self.assertEqual([32], [len(key) for key in keys])
        self.assertEqual(keys, {report_key.ReportKey(self.database).read()})

    def test_deleted_key_is_replaced_and_a_damaged_key_is_reported(self):
        databases.create_schema(self.database)
        table, reader = models.Base.metadata.tables['report_keys'], report_key.ReportKey(self.database)
        first = reader.read()
        with self.database.writing() as connection:
            connection.execute(table.delete())
        self.assertNotEqual(first, reader.read())
        for damaged in ('', 'abc', 'x' * 64, 'ab' * 31):
            with self.database.writing() as connection:
                connection.execute(table.update().values(key=damaged))
            error = self.assertRaises(exceptions.DatabaseUnavailable, reader.read)
            self.assertIn('report_keys is damaged', str(error))

    def test_missing_table(self):
        self.assertRaises(exceptions.DatabaseUnavailable, report_key.ReportKey(self.database).read)
