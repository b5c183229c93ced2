"""The checks of ``doctor``, each with the real problem on a real broker, database or Keystone."""

import json

import amqp
import sqlalchemy as sa

from external_events_router.db import migration
from external_events_router.doctor import base as checks
from external_events_router.doctor import broker as broker_checks
from external_events_router.doctor import canary
from external_events_router.doctor import databases
from external_events_router.doctor import hosts
from external_events_router.doctor import nova
from external_events_router.doctor import queues
from external_events_router.resolver.drivers.nova import tables
from external_events_router.resolver.host_map import sql
from tests import base
from tests import interpreter
from tests.faults import broker
from tests.integration import deployment
from tests.integration import keystone
from tests.integration import services
from tests.unit.doctor import sites

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'
PASSWORD = 'p4ssw0rd'


def rabbit_url(url, **changed):
    return sa.make_url(url).set(**changed).render_as_string(hide_password=False)


class CheckedTest(base.TestCase):
    """Runs checks and compares their results."""

    TIMEOUT_SCALING_FACTOR = 5

    def result(self, module, name, *, service=checks.API, **overrides):
        overrides.setdefault('control_exchange', 'external_events')
        with sites.Site(service=service, **overrides) as site:
            return site.run(sites.named(module.CHECKS, name))

    def assert_result(self, status, text, result, remedy=''):
        self.assertEqual(status, result.status, result)
        self.assertIn(text, result.evidence)
        self.assertIn(remedy, result.remedy)


class BrokerTest(CheckedTest):
    """Logins, nodes and queues in a virtual host of the test's own."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rabbit = services.share(cls, services.RabbitMQ(password=PASSWORD))

    def login(self, url):
        return self.result(broker_checks, 'broker-login', transport_url=url)

    def test_login(self):
        self.assert_result(checks.Status.OK, 'user eer-test-', self.login(self.rabbit.url))
        refused = self.login(rabbit_url(self.rabbit.url, password='wrong'))
        self.assert_result(checks.Status.FAIL, 'ACCESS_REFUSED', refused, 'change_password')
        unknown = self.login(rabbit_url(self.rabbit.url, database='nowhere'))
        self.assert_result(checks.Status.FAIL, 'nowhere', unknown, 'virtual host')
        port = deployment.free_port()
        unreachable = self.login(rabbit_url(self.rabbit.url, port=port))
        self.assert_result(checks.Status.FAIL, f':{port}', unreachable, 'start the broker')

    def test_one_of_two_nodes_is_down(self):
        address = self.rabbit.url.removeprefix('rabbit://').partition('/')[0]
        user = address.rpartition('@')[0]
        both = self.rabbit.url.replace(address, f'{address},{user}@127.0.0.1:{deployment.free_port()}')
        self.assert_result(
            checks.Status.WARN,
            '1 of 2 nodes do not accept',
            self.result(broker_checks, 'broker-nodes', transport_url=both),
        )
        self.assert_result(
            checks.Status.OK,
            'all 1 nodes',
            self.result(broker_checks, 'broker-nodes', transport_url=self.rabbit.url),
        )

    def channel(self):
        url = sa.make_url(self.rabbit.url)
        connection = amqp.Connection(
            f'{url.host}:{url.port or 5672}', url.username, url.password, virtual_host=url.database
        )
        connection.connect()
        self.addCleanup(connection.collect)
        return connection.channel()

    def test_queue_with_other_arguments(self):
        self.channel().queue_declare('compute.host-a', durable=True, auto_delete=False)
        options = {'transport_url': self.rabbit.url, 'service': checks.AGENT, 'host': 'host-a'}
        self.assert_result(
            checks.Status.OK, '0 of them do not exist', self.result(queues, 'queue-arguments', **options)
        )
        self.assert_result(
            checks.Status.WARN,
            "inequivalent arg 'x-queue-type' for queue 'compute.host-a'",
            self.result(
                queues, 'queue-arguments', oslo_messaging_rabbit__rabbit_quorum_queue=True, **options
            ),
            'rabbitmqctl delete_queue',
        )
        self.channel().queue_delete('compute.host-a')

    def test_hosts_without_a_queue_or_consumer(self):
        with sites.Site(schema=True, transport_url=self.rabbit.url) as site:
            host_map = sql.SqlHostMap(site.site.database())
            for host in ('host-b', 'host-c'):
                host_map.assign(SERVER, host)
            check = sites.named(hosts.CHECKS, 'host-queues')
            channel = self.channel()
            channel.queue_declare('compute.host-c', auto_delete=False)
            self.assert_result(
                checks.Status.WARN, 'no queue: host-b; 1 queues have no consumer: host-c', site.run(check)
            )
            channel.queue_declare('compute.host-b', auto_delete=False)
            for host in ('host-b', 'host-c'):
                channel.basic_consume(f'compute.{host}')
            self.assert_result(checks.Status.OK, '2 of 2 hosts', site.run(check))

    def test_canary_leaves_nothing_behind(self):
        (check,) = canary.CHECKS
        for options in (
            {},
            {'compute__direct_amqp': False, 'oslo_messaging_rabbit__rabbit_quorum_queue': True},
        ):
            result = self.result(canary, check.name, transport_url=self.rabbit.url, **options)
            self.assert_result(checks.Status.OK, 'handled and acknowledged', result)
        names = services.list_queues(sa.make_url(self.rabbit.url).database)
        self.assertEqual([], [name for name in names if 'doctor' in name])


class RestrictedTest(CheckedTest):
    """A node of the test's own: users without permissions, and alarms."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.node = services.share(cls, broker.Broker())
        cls.node.control('add_user', 'restricted', PASSWORD)

    def url(self, user='restricted'):
        password = PASSWORD if user == 'restricted' else user
        return f'rabbit://{user}:{password}@127.0.0.1:{self.node.port}/'

    def permit(self, configure='.*', write='.*', read='.*'):
        self.node.control('set_permissions', 'restricted', configure, write, read)

    def permissions(self, **options):
        return self.result(broker_checks, 'broker-permissions', transport_url=self.url(), **options)

    def test_permissions(self):
        with self.node.channel() as channel:
            for exchange in ('external_events', 'external_events_acks', 'external_events_reports'):
                channel.exchange_declare(exchange, 'topic', durable=True, auto_delete=False)
        self.permit()
        self.assert_result(checks.Status.OK, 'has the permissions', self.permissions())
        for permitted, text in (
            ({'configure': '^$'}, 'must not declare external_events '),
            ({'write': '^external-events-acks'}, 'must not publish compute.external-events-doctor'),
            ({'read': '^external_events'}, 'must not declare, bind and read the queue external-events-acks'),
        ):
            self.permit(**permitted)
            self.assert_result(checks.Status.FAIL, text, self.permissions(), '--role api --user restricted')
        self.permit()
        self.node.control('set_topic_permissions', 'restricted', 'external_events', '^notifications$', '.*')
        self.addCleanup(self.node.control, 'clear_topic_permissions', 'restricted')
        self.assert_result(checks.Status.FAIL, 'must not publish compute.', self.permissions())
        agent = {'service': checks.AGENT, 'host': 'host-a'}
        self.assert_result(checks.Status.WARN, 'bind the queue compute.host-a', self.permissions(**agent))
        self.permit(write='^compute')
        self.assert_result(
            checks.Status.FAIL,
            'must not publish external-events-acks',
            self.permissions(**agent),
            '--role agent',
        )

    def test_user_without_access_to_the_virtual_host(self):
        self.node.control('add_vhost', 'other')
        result = self.result(broker_checks, 'broker-login', transport_url=self.url() + 'other')
        self.assert_result(checks.Status.FAIL, 'vhost', result, 'set_permissions')

    def test_alarm(self):
        check = {'transport_url': self.url('guest')}
        self.assert_result(checks.Status.OK, 'no alarm', self.result(broker_checks, 'broker-alarm', **check))
        self.node.control('set_vm_memory_high_watermark', '0.00001')
        try:
            result = self.result(broker_checks, 'broker-alarm', **check)
        finally:
            self.node.control('set_vm_memory_high_watermark', broker.WATERMARK)
        self.assert_result(checks.Status.FAIL, 'accepts no messages: ', result, 'rabbitmq-diagnostics alarms')

    def test_refused_declaration(self):
        with self.node.channel() as channel:
            channel.exchange_declare('events_of_another', 'topic', durable=True, auto_delete=False)
        result = self.result(
            broker_checks,
            'broker-declarations',
            transport_url=self.url('guest'),
            control_exchange='events_of_another',
            oslo_messaging_rabbit__amqp_durable_queues=False,
        )
        self.assert_result(checks.Status.FAIL, 'events_of_another', result, 'correct this option')


class DatabaseScenarios:
    """With a user of the test's own, who gets and loses grants."""

    USER = 'eer_doctor'

    def requires_passwords(self):
        """Return whether the server refuses a wrong password."""
        return True

    def result_at(self, name, url, **options):
        return self.result(databases, name, database__connection=url, **options)

    def test_login(self):
        self.assert_result(checks.Status.OK, self.VERSION, self.result_at('database-login', self.url()))
        if self.requires_passwords():
            wrong = self.result_at('database-login', self.url(password='wrong'))
            self.assert_result(checks.Status.FAIL, self.USER, wrong, 'correct user and password')
        unknown = self.result_at('database-login', self.url(database='eer_nowhere'))
        self.assert_result(checks.Status.FAIL, 'eer_nowhere', unknown)
        self.assertTrue(unknown.remedy.startswith(('correct the name', 'grant the user access')), unknown)
        unreachable = self.result_at('database-login', self.url(port=deployment.free_port()))
        self.assert_result(checks.Status.FAIL, '127.0.0.1', unreachable, 'start the database')

    def test_schema_of_another_release(self):
        self.assert_result(checks.Status.OK, migration.head(), self.result_at('database-schema', self.url()))
        for revision, status in (('001', checks.Status.FAIL), ('999', checks.Status.WARN)):
            self.execute('UPDATE alembic_version SET version_num = :revision', revision=revision)
            self.assert_result(status, revision, self.result_at('database-schema', self.url()))

    def test_revoked_grants(self):
        self.assert_result(checks.Status.OK, 'all tables', self.result_at('database-grants', self.url()))
        for grant, table in (('DELETE', 'held_events'), ('INSERT', 'servers'), ('UPDATE', 'held_servers')):
            self.revoke(grant, table)
            result = self.result_at('database-grants', self.url())
            self.assert_result(checks.Status.FAIL, f'{grant} {table}', result)
        self.assertNotIn('SELECT', result.evidence)

    def test_clock(self):
        self.assert_result(checks.Status.OK, ' the database', self.result_at('database-clock', self.url()))


class MariaDBTest(DatabaseScenarios, CheckedTest):
    VERSION = 'MariaDB 1'

    def setUp(self):
        super().setUp()
        self.database = self.useFixture(services.MySQL())
        self.name = sa.make_url(self.database.url).database
        self.USER = f'doctor_{self.name[-8:]}'
        with sites.Site(database__connection=self.database.url, schema=True):
            pass
        self.execute(f"CREATE USER '{self.USER}'@'%' IDENTIFIED BY '{PASSWORD}'")
        self.addCleanup(self.execute, f"DROP USER '{self.USER}'@'%'")
        for table in (*databases.models.Base.metadata.tables, 'alembic_version'):
            self.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO '{self.USER}'@'%'")

    def url(self, **changed):
        values = {'username': self.USER, 'password': PASSWORD, **changed}
        return sa.make_url(self.database.url).set(**values).render_as_string(hide_password=False)

    def execute(self, statement, **values):
        engine = sa.create_engine(self.database.url, isolation_level='AUTOCOMMIT', poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(statement), values)

    def revoke(self, grant, table):
        self.execute(f"REVOKE {grant} ON {table} FROM '{self.USER}'@'%'")


class PostgreSQLTest(DatabaseScenarios, CheckedTest):
    VERSION = 'postgresql 1'

    def setUp(self):
        super().setUp()
        self.database = self.useFixture(services.PostgreSQL())
        self.USER = f'doctor_{sa.make_url(self.database.url).database[-8:]}'
        with sites.Site(database__connection=self.database.url, schema=True):
            pass
        self.execute(f"CREATE ROLE {self.USER} LOGIN PASSWORD '{PASSWORD}'")
        self.addCleanup(self.execute, f'DROP OWNED BY {self.USER}; DROP ROLE {self.USER}')
        self.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {self.USER}')
        self.execute(f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {self.USER}')

    def url(self, **changed):
        values = {'username': self.USER, 'password': PASSWORD, **changed}
        return sa.make_url(self.database.url).set(**values).render_as_string(hide_password=False)

    def execute(self, statement, **values):
        engine = sa.create_engine(self.database.url, isolation_level='AUTOCOMMIT', poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(statement), values)

    def revoke(self, grant, table):
        self.execute(f'REVOKE {grant} ON {table} FROM {self.USER}')

    def requires_passwords(self):
        rules = sa.text("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'")
        with sa.create_engine(self.database.url, poolclass=sa.NullPool).connect() as connection:
            return not connection.scalar(rules)

    def test_sequence_that_the_user_must_not_use(self):
        self.execute(f'REVOKE USAGE ON ALL SEQUENCES IN SCHEMA public FROM {self.USER}')
        result = self.result_at('database-grants', self.url())
        self.assert_result(checks.Status.FAIL, 'use the sequence of held_events.seq', result)


class KeystoneTest(CheckedTest):
    """The user of the service, and the users of senders."""

    TIMEOUT_SCALING_FACTOR = 10

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.keystone = services.share(cls, keystone.Keystone())
        cls.keystone.user('router', 'admin')
        cls.keystone.user('weak', 'member')
        cls.keystone.user('validator', 'service')
        cls.keystone.user('neutron', 'service')
        cls.keystone.user('cinder', 'member')

    def checked(self, name, user, *, senders=(), **others):
        # NOTE: in a process of its own, because keystonemiddleware registers required options in cfg.CONF.
        options = self.keystone.options(user, **others)
        text = '[keystone_authtoken]\n'
        text += ''.join(f'{key.partition("__")[2]} = {value}\n' for key, value in options.items())
        (path,) = self.create_tempfiles([('router', text)])
        words = [f'--sender={sender}' for sender in senders]
        done = interpreter.run(
            deployment.MANAGE, '--config-file', path, 'doctor', '--check', name, '-f', 'json', *words
        )
        self.assertEqual('', done.stderr)
        row = json.loads(done.stdout)[-1]
        self.assertEqual(done.returncode, checks.Status[row['status']], done.stdout)
        return checks.Result(checks.Status[row['status']], row['evidence'], row['remedy'])

    def test_password(self):
        good = self.checked('keystone-password', 'validator')
        self.assert_result(checks.Status.OK, 'user validator, project service, roles service', good)
        wrong = self.checked('keystone-password', 'validator', password='wrong')
        self.assert_result(checks.Status.FAIL, 'refuses the password of user validator', wrong)
        away = self.checked(
            'keystone-password', 'validator', url=f'http://127.0.0.1:{deployment.free_port()}/v3'
        )
        self.assert_result(checks.Status.FAIL, 'cannot be reached', away, 'start Keystone')
        weak = self.checked('keystone-password', 'weak')
        self.assert_result(checks.Status.FAIL, 'may not validate tokens', weak, 'openstack role add')

    def test_senders(self):
        good = self.checked('keystone-senders', 'router', senders=['neutron'])
        self.assert_result(checks.Status.OK, 'permits neutron', good)
        bad = self.checked('keystone-senders', 'router', senders=['neutron', 'cinder'])
        self.assert_result(checks.Status.FAIL, 'refuses events of cinder', bad, '--user cinder')
        nobody = self.checked('keystone-senders', 'router', senders=['nobody'])
        self.assert_result(checks.Status.WARN, 'none of these users', nobody)
        unable = self.checked('keystone-senders', 'validator', senders=['neutron'])
        self.assert_result(checks.Status.WARN, 'user validator may not list', unable, 'role assignment list')


class NovaTest(CheckedTest):
    """Databases with Nova's tables and a user whose grants the test revokes."""

    def setUp(self):
        super().setUp()
        self.api, self.cell = (self.useFixture(services.MySQL()) for _ in range(2))
        self.rabbit = self.useFixture(services.RabbitMQ())
        self.USER = f'nova_{sa.make_url(self.api.url).database[-8:]}'
        for database, metadata in ((self.api, tables.api), (self.cell, tables.cell)):
            metadata.create_all(self.engine(database))
        self.execute(self.api, f"CREATE USER '{self.USER}'@'%' IDENTIFIED BY '{PASSWORD}'")
        self.addCleanup(self.execute, self.api, f"DROP USER '{self.USER}'@'%'")
        for database, metadata in ((self.api, tables.api), (self.cell, tables.cell)):
            for table in metadata.tables:
                self.execute(database, f"GRANT SELECT ON {table} TO '{self.USER}'@'%'")
        self.execute(self.cell, f"GRANT INSERT ON instance_actions TO '{self.USER}'@'%'")

    def engine(self, database):
        return sa.create_engine(database.url, isolation_level='AUTOCOMMIT', poolclass=sa.NullPool)

    def execute(self, database, statement):
        with self.engine(database).connect() as connection:
            connection.execute(sa.text(statement))

    def url(self, database):
        made = sa.make_url(database.url).set(username=self.USER, password=PASSWORD)
        return made.render_as_string(hide_password=False)

    def map_cell(self, uuid, *, database=None, transport=None):
        values = {
            'uuid': uuid,
            'name': f'cell-{uuid[0]}',
            'database_connection': database or self.url(self.cell),
            'transport_url': transport or self.rabbit.url,
        }
        with self.engine(self.api).connect() as connection:
            connection.execute(sa.insert(tables.cell_mappings).values(values))

    def checked(self, name):
        return self.result(
            nova,
            name,
            host_map__backend='nova',
            compute__driver='nova',
            nova__api_connection=self.url(self.api),
            transport_url=self.rabbit.url,
        )

    def test_cells(self):
        self.assert_result(checks.Status.FAIL, 'maps no cells', self.checked('nova-cells'))
        self.map_cell('1' * 36)
        self.assert_result(checks.Status.OK, 'cell cell-1', self.checked('nova-cells'))
        port = deployment.free_port()
        self.map_cell('2' * 36, transport=f'rabbit://guest:guest@127.0.0.1:{port}/')
        self.map_cell('3' * 36, database=self.url(self.cell).replace(PASSWORD, 'wrong'))
        result = self.checked('nova-cells')
        self.assert_result(checks.Status.FAIL, 'cell cell-2: broker: ', result, 'update_cell')
        self.assertIn('cell cell-3: database: ', result.evidence)
        self.assertNotIn('cell-1', result.evidence)
        self.assertNotIn('wrong', result.evidence)

    def test_grants(self):
        self.map_cell('1' * 36)
        self.assert_result(checks.Status.OK, 'can be read', self.checked('nova-grants'))
        self.execute(self.cell, f"REVOKE INSERT ON instance_actions FROM '{self.USER}'@'%'")
        self.assert_result(
            checks.Status.FAIL, 'INSERT instance_actions (cell cell-1)', self.checked('nova-grants')
        )
        revoke = 'REVOKE SELECT ON host_mappings FROM '
        self.execute(self.api, f"{revoke}'{self.USER}'@'%'")
        self.assert_result(
            checks.Status.FAIL, 'SELECT host_mappings ([nova] api_connection)', self.checked('nova-grants')
        )
