"""In front of a separate Nova: its databases, its compute manager with RPC servers, and casts of the router.

Nova is the oldest release that is supported and the newest; both with two cells.
"""

import json
import signal
import time

import sqlalchemy as sa

from external_events_router import events
from external_events_router.resolver.drivers.nova import host_map as host_map
from external_events_router.resolver.drivers.nova import tables
from tests import base
from tests.faults import broker
from tests.integration import deployment
from tests.integration import services
from tests.nova import casts
from tests.nova import cloud
from tests.unit.db import databases

HOSTS = {'host1': 'cell1', 'host2': 'cell2', 'host3': 'cell2', 'host4': 'cell2'}

ONE, TWO, MOVING, ACROSS_CELLS, DELETED, WAITING, NOWHERE, UNKNOWN, ABSENT = (
    f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 10)
)
PORT = 'aaaaaaaa-0000-4000-8000-000000000000'

INSTANCES = [
    {'uuid': ONE, 'cell': 'cell1', 'host': 'host1', 'port': PORT},
    {'uuid': TWO, 'cell': 'cell2', 'host': 'host2'},
    {'uuid': MOVING, 'cell': 'cell2', 'host': 'host2', 'migration': {'source': 'host2', 'dest': 'host3'}},
    {
        'uuid': ACROSS_CELLS,
        'cell': 'cell1',
        'host': 'host1',
        'migration': {'source': 'host1', 'dest': 'host3', 'across_cells': True},
    },
    {'uuid': DELETED, 'cell': 'cell2', 'host': 'host2', 'deleted': True},
    {'uuid': WAITING, 'cell': None, 'host': None},
    {'uuid': NOWHERE, 'cell': 'cell1', 'host': None},
    {'uuid': ABSENT, 'cell': 'cell2', 'host': 'host4'},
]

MAPPINGS = tables.cell_mappings

#: A port without a listener.
CLOSED_PORT = '127.0.0.1:9'


class Router(deployment.Deployment):
    """The front with its resolver in front of Nova, as one command."""

    def __init__(self, cloud, **options):
        defaults = {
            'host_map__backend': 'nova',
            'compute__driver': 'nova',
            'api__resolver': 'local',
            'api__workers': 1,
            'nova__api_connection': cloud.api.replace('%', '%%'),
            'nova__database_connection': cloud.databases['cell1'].replace('%', '%%'),
            'nova__transport_url': cloud.transports['cell1'].replace('%', '%%'),
            'delivery__ack_timeout': 3.0,
        }
        super().__init__(transport_url='', connection='', hosts=(), hosts_of={}, **{**defaults, **options})

    def _setUp(self):
        self.transport_url = self.useFixture(services.RabbitMQ()).url
        self.connection = self.useFixture(services.MySQL()).url
        super()._setUp()

    def import_hosts(self, hosts_of):
        """There is nothing to import."""

    def start(self):
        """Start one process or both, and wait until it has connected to the cells."""
        if self.options['api__resolver'] == 'rpc':
            self.start_resolver()
        self.api = self.start_api()
        if self.options['api__resolver'] == 'local':
            self.api.wait_for('is ready')

    def held(self):
        """The held and expired events, as dicts."""
        return json.loads(self.manage('held', 'list', '--long', '-f', 'json'))


def event(server, name='network-vif-unplugged', tag=None, **members):
    return {'name': name, 'server_uuid': server, **({} if tag is None else {'tag': tag}), **members}


class NovaTest(base.TestCase):
    """What needs one cloud, which takes half a minute to make."""

    TIMEOUT_SCALING_FACTOR = 5

    HOSTS = HOSTS
    INSTANCES = INSTANCES
    VERSION: str

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cloud = cloud.Cloud(cls.VERSION, hosts=cls.HOSTS, instances=cls.INSTANCES)
        cls.addClassCleanup(cls.cloud.cleanUp)
        cls.cloud.setUp()

    def compute(self, host, **options):
        """Nova's compute manager for a host, until the end of the test."""
        return self.useFixture(self.cloud.compute(host, **options))

    def change_cell(self, name, **columns):
        """Change the mapping of a cell until the end of the test."""
        with self.cloud.database(self.cloud.api) as connection:
            urls = sa.select(MAPPINGS.c.database_connection, MAPPINGS.c.transport_url)
            before = connection.execute(urls.where(MAPPINGS.c.name == name)).one()
        self.addCleanup(self.set_cell, name, **before._asdict())
        self.set_cell(name, **columns)

    def set_cell(self, name, **columns):
        """Change the mapping of a cell."""
        with self.cloud.database(self.cloud.api) as connection:
            connection.execute(sa.update(MAPPINGS).where(MAPPINGS.c.name == name).values(**columns))


class Scenarios:
    """What every release has to show."""

    def test_instances_have_the_form_that_nova_sends(self):
        conf = databases.configured('sqlite://')
        conf.set_override('api_connection', self.cloud.api, group='nova')
        the_map = host_map.NovaHostMap(conf)
        self.addCleanup(the_map.close)
        the_map.check()
        found = the_map.look_up([instance['uuid'] for instance in INSTANCES] + [UNKNOWN], timeout=30)
        one, two = self.cloud.uuids['cell1'], self.cloud.uuids['cell2']
        self.assertEqual(
            {
                ONE: (f'host1@{one}',),
                TWO: (f'host2@{two}',),
                MOVING: (f'host2@{two}', f'host3@{two}'),
                ACROSS_CELLS: (f'host1@{one}', f'host3@{two}'),
                WAITING: (),
                NOWHERE: (),
                ABSENT: (f'host4@{two}',),
            },
            found.hosts,
        )
        self.assertEqual({}, found.reasons)
        of_nova = self.cloud.primitives([*found.records])
        for uuid, record in found.records.items():
            self.assertEqual(casts.comparable(of_nova[uuid]), casts.comparable(record.primitive))

    def test_every_event_is_handled_by_the_compute_manager(self):
        compute = self.compute('host1', waits=[(ONE, 'network-vif-plugged', PORT)])
        router = self.useFixture(Router(self.cloud))
        batch = [
            event(ONE, 'power-update', 'POWER_OFF'),
            event(ONE, 'network-changed', PORT),
            event(ONE, 'network-changed', PORT),
            event(ONE, 'volume-extended', 'a volume'),
            *(
                event(ONE, name, PORT)
                for name in events.EVENT_TYPES
                if name not in ('power-update', 'network-changed', 'volume-extended')
            ),
        ]
        self.assertEqual((200, [200] * len(batch)), router.post(*batch))
        compute.wait_for_messages('woken')
        (handled,) = compute.wait_for_messages('handled')
        (called,) = compute.messages('called')
        self.assertEqual(
            [
                'network-vif-plugged',
                'network-vif-unplugged',
                'accelerator-request-bound',
                'volume-reimaged',
                'power-update',
                'network-changed',
                'volume-extended',
                'network-vif-deleted',
            ],
            [name for name, *_ in called['events']],
        )
        self.assertIs(True, called['is_admin'])
        with self.cloud.database(self.cloud.databases['cell1']) as connection:
            done = connection.execute(
                sa.text(
                    'select e.event, e.result from instance_actions a'
                    ' join instance_actions_events e on e.action_id = a.id'
                    ' where a.request_id = :request_id order by e.event'
                ),
                {'request_id': handled['request_id']},
            ).all()
            actions = connection.scalars(
                sa.text('select action from instance_actions where request_id = :request_id order by action'),
                {'request_id': handled['request_id']},
            ).all()
        self.assertEqual(['extend_volume', 'stop'], actions)
        # NOTE: which of the two each is under is up to Nova, where one request has both.
        self.assertEqual(
            [('compute_extend_volume', 'Success'), ('compute_power_update', 'Success')],
            [tuple(row) for row in done],
        )

    def test_every_host_of_a_migration_and_codes_as_in_nova(self):
        computes = {host: self.compute(host) for host in ('host1', 'host2', 'host3')}
        router = self.useFixture(Router(self.cloud))
        batch = [
            event(uuid, 'network-vif-plugged', 'a port')
            for uuid in (TWO, UNKNOWN, MOVING, WAITING, ACROSS_CELLS, NOWHERE)
        ]
        batch.append(event(TWO, 'volume-extended'))
        self.assertEqual((207, [200, 404, 200, 422, 200, 422, 400]), router.post(*batch))
        handled_by = {host: compute.wait_for_messages('handled') for host, compute in computes.items()}
        self.assertEqual([1, 1, 1], [len(lines) for lines in handled_by.values()])
        got = {
            host: {(name, uuid) for name, uuid, *_ in compute.messages('called')[0]['events']}
            for host, compute in computes.items()
        }
        plugged = 'network-vif-plugged'
        self.assertEqual(
            {
                'host1': {(plugged, ACROSS_CELLS)},
                'host2': {(plugged, TWO), (plugged, MOVING)},
                'host3': {(plugged, MOVING), (plugged, ACROSS_CELLS)},
            },
            got,
        )

    def test_only_the_event_that_nova_compute_failed_to_handle_is_500(self):
        compute = self.compute('host1')
        router = self.useFixture(Router(self.cloud, nova__acknowledge='reply'))
        batch = [event(ONE, 'network-changed', tag) for tag in ('fine', 'fail', 'well')]
        batch.append(event(ONE, 'network-vif-plugged', 'a port'))
        self.assertEqual((207, [200, 500, 200, 200]), router.post(*batch))
        self.assertEqual(2, len(compute.messages('failed')))
        # An event that takes longer than the wait is held, and not sent twice.
        began = time.monotonic()
        self.assertEqual((200, [200]), router.post(event(ONE, 'network-changed', 'slow15')))
        self.assertLess(time.monotonic() - began, 5.5)
        self.assertEqual(['slow15'], [held['tag'] for held in router.held()])
        deployment.wait_until(lambda: not router.held(), 'an empty hold')
        tags = [tag for called in compute.messages('called') for *_, tag in called['events']]
        self.assertEqual(1, tags.count('slow15'))


class NewestTest(Scenarios, NovaTest):
    """What needs the newest release only, too."""

    VERSION = cloud.NEWEST

    def test_event_held_for_a_stopped_nova_compute_has_its_action_after_the_start(self):
        router = self.useFixture(Router(self.cloud))
        self.assertEqual((200, [200]), router.post(event(ABSENT, 'power-update', 'POWER_ON')))
        self.assertEqual(['power-update'], [held['name'] for held in router.held()])
        compute = self.compute('host4')
        (handled,) = compute.wait_for_messages('handled')
        deployment.wait_until(lambda: not router.held(), 'an empty hold')
        self.assertEqual([], compute.messages('failed'))
        with self.cloud.database(self.cloud.databases['cell2']) as connection:
            done = connection.execute(
                sa.text('select action, request_id from instance_actions where instance_uuid = :uuid'),
                {'uuid': ABSENT},
            ).all()
        self.assertEqual([('start', handled['request_id'])], [tuple(row) for row in done])

    def test_a_compute_that_dies_while_it_handles_an_event_gets_it_again(self):
        compute = self.compute('host1')
        router = self.useFixture(
            Router(
                self.cloud,
                nova__acknowledge='reply',
                nova__reply_timeout=12.0,
                delivery__ack_timeout=1.0,
            )
        )
        self.assertEqual((200, [200]), router.post(event(ONE, 'network-changed', 'slow8')))
        self.assertEqual(['slow8'], [held['tag'] for held in router.held()])
        self.assertEqual([], compute.messages('handled'))
        compute.stop(number=signal.SIGKILL)
        compute.start()
        compute.wait_for_messages('handled')
        deployment.wait_until(lambda: not router.held(), 'an empty hold')

    def test_cell_whose_database_is_unavailable(self):
        compute = self.compute('host1')
        self.change_cell('cell2', database_connection=f'mysql+pymysql://root@{CLOSED_PORT}/nova')
        router = self.useFixture(Router(self.cloud))
        began = time.monotonic()
        self.assertEqual((207, [200, 503, 404]), router.post(event(ONE), event(TWO), event(UNKNOWN)))
        self.assertLess(time.monotonic() - began, 5.0)
        compute.wait_for_messages('handled')

    def test_cell_whose_broker_is_unavailable(self):
        compute = self.compute('host1')
        self.change_cell('cell2', transport_url=f'rabbit://guest:guest@{CLOSED_PORT}/')
        router = self.useFixture(Router(self.cloud))
        self.assertEqual((200, [200, 200]), router.post(event(TWO), event(ONE)))
        compute.wait_for_messages('handled')
        self.assertEqual([TWO], [held['server'] for held in router.held()])
        # Now its host is known not to be worth waiting for.
        began = time.monotonic()
        self.assertEqual((200, [200, 200]), router.post(event(TWO), event(ONE)))
        self.assertLess(time.monotonic() - began, 2.0)
        compute.wait_for_messages('handled', 2)
        # The mapping is corrected, and the held event is sent.
        two = self.compute('host2')
        self.set_cell('cell2', transport_url=self.cloud.transports['cell2'])
        two.wait_for_messages('handled')
        deployment.wait_until(lambda: not router.held(), 'an empty hold')

    def test_a_cell_whose_broker_is_in_alarm(self):
        compute = self.compute('host1')
        own = self.useFixture(broker.Broker())
        sent = casts.Casts(own.url())
        self.addCleanup(sent.close)
        self.change_cell('cell2', transport_url=own.url())
        router = self.useFixture(Router(self.cloud))
        own.control('set_vm_memory_high_watermark', 'absolute', '1')
        began = time.monotonic()
        self.assertEqual((200, [200, 200]), router.post(event(TWO), event(ONE)))
        self.assertLess(time.monotonic() - began, 5.0)
        compute.wait_for_messages('handled')
        for number in range(2, 5):
            began = time.monotonic()
            self.assertEqual((200, [200, 200]), router.post(event(TWO), event(ONE)))
            self.assertLess(time.monotonic() - began, 2.0)
            compute.wait_for_messages('handled', number)
        self.assertEqual([], sent.take())
        self.assertEqual({TWO}, {held['server'] for held in router.held()})
        own.control('set_vm_memory_high_watermark', broker.WATERMARK)
        deployment.wait_until(lambda: not router.held(), 'an empty hold')
        # Each event once, also the event that was blocked by the memory alarm.
        self.assertEqual(4, sum(len(cast['events']) for _, cast in sent.take()))

    def test_separate_resolvers(self):
        compute = self.compute('host1')
        router = self.useFixture(Router(self.cloud, api__resolver='rpc'))
        self.assertEqual(
            (207, [200, 404]), router.post(event(ONE, 'power-update', 'POWER_ON'), event(UNKNOWN))
        )
        (handled,) = compute.wait_for_messages('handled')
        (called,) = compute.messages('called')
        with self.cloud.database(self.cloud.databases['cell1']) as connection:
            recorded = connection.execute(
                sa.text('select action, user_id from instance_actions where request_id = :request_id'),
                {'request_id': handled['request_id']},
            ).one()
        self.assertEqual(('start', called['user_id']), tuple(recorded))
        self.assertEqual('noauth', called['user_id'])

    def test_mappings_that_are_templates(self):
        compute = self.compute('host1')
        for column, url in (
            ('database_connection', self.cloud.databases),
            ('transport_url', self.cloud.transports),
        ):
            name = sa.make_url(url['cell1']).database
            user = '{username}' if column == 'database_connection' else '{username}:{password}'
            self.change_cell('cell1', **{column: f'{{scheme}}://{user}@{{hostname}}:{{port}}/{name}'})
        router = self.useFixture(Router(self.cloud))
        self.assertEqual((200, [200]), router.post(event(ONE)))
        compute.wait_for_messages('handled')


class OldestTest(Scenarios, NovaTest):
    """What needs the oldest release, or does as well with it."""

    VERSION = cloud.OLDEST

    def test_a_version_that_is_pinned(self):
        compute = self.compute('host1')
        router = self.useFixture(Router(self.cloud, nova__compute_rpc='5.13'))
        self.assertEqual((200, [200]), router.post(event(ONE)))
        compute.wait_for_messages('handled')
