"""The same batches to Nova's own API and to us: the same codes, the same casts, the same records.

The intentional differences are listed here, and in the documentation. HAProxy is between
the APIs and their clients, with the configuration of the documentation.
"""

import http.client
import json
import pathlib
import re
import shutil

import openstack
import requests
import sqlalchemy as sa

from tests.conformance import cases
from tests.integration import deployment
from tests.integration import services
from tests.nova import casts
from tests.nova import cloud
from tests.nova import test_computes

IDS = cases.IDS
IN_CELL0, UNSCHEDULED = (f'{number:08x}-0000-4000-8000-00000000000a' for number in (1, 2))

HOSTS = {'host-a': 'cell1', 'host-b': 'cell2', 'host-c': 'cell2'}

INSTANCES = [
    {'uuid': IDS['placed'], 'cell': 'cell1', 'host': 'host-a'},
    {'uuid': IDS['cohost'], 'cell': 'cell1', 'host': 'host-a'},
    {'uuid': IDS['elsewhere'], 'cell': 'cell2', 'host': 'host-b'},
    {'uuid': IDS['unplaced'], 'cell': 'cell1', 'host': None},
    {
        'uuid': IDS['migrating'],
        'cell': 'cell2',
        'host': 'host-b',
        'migration': {'source': 'host-b', 'dest': 'host-c'},
    },
    {'uuid': IDS['deleted'], 'cell': 'cell1', 'host': 'host-a', 'deleted': True},
    {'uuid': IN_CELL0, 'cell': 'cell0', 'host': None},
    {'uuid': UNSCHEDULED, 'cell': None, 'host': None},
]

#: The conformance cases about events; the other cases are about HTTP.
FILES = ('codes', 'names', 'schema', 'versions')

HAPROXY = pathlib.Path(__file__).parents[2] / 'doc/source/admin/examples/haproxy-nova.cfg'


class NovaAPITest(test_computes.NovaTest):
    """One cloud, Nova's API over it, and us."""

    HOSTS = HOSTS
    INSTANCES = INSTANCES
    VERSION = cloud.NEWEST

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.casts = [casts.Casts(url) for url in cls.cloud.transports.values()]
        for consumer in cls.casts:
            cls.addClassCleanup(consumer.close)
        cls.nova_port = deployment.free_port()
        cls.api = cls.cloud.api_server(cls.nova_port)
        cls.router = test_computes.Router(cls.cloud, api__none_found_status=207)
        for fixture in (cls.api, cls.router):
            cls.addClassCleanup(fixture.cleanUp)
            fixture.setUp()
        deployment.wait_until(lambda: deployment.listens(cls.nova_port), f'Nova: {cls.api.log}')

    def setUp(self):
        super().setUp()
        for consumer in self.casts:
            consumer.take()

    def send(self, port, request):
        """Send a request; return the status, the codes of its events if it has them, and the casts."""
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=deployment.PATIENCE)
        self.addCleanup(connection.close)
        connection.request(request.method, request.path, request.body, dict(request.headers))
        with connection.getresponse() as response:
            status, body = response.status, response.read()
        connection.close()
        codes = None
        if status in (200, 207):
            codes = [event['code'] for event in json.loads(body).get('events', ())]
        return status, codes, sorted((cast for consumer in self.casts for cast in consumer.take()), key=str)

    def both(self, *batch):
        """What Nova and we make of a batch."""
        request = _request(*batch)
        return self.send(self.nova_port, request), self.send(self.router.port, request)

    def test_every_conformance_case(self):
        found, casts = [], 0
        for case in (case for name in FILES for case in cases.load(name, self.router.url)):
            if case.request.roles is not None or case.request.chunked:
                continue
            of_nova, of_router = (
                self.send(self.nova_port, case.request),
                self.send(self.router.port, case.request),
            )
            casts += len(of_router[2])
            if of_nova != of_router:
                found.append(f'{case.id}:\n  Nova {of_nova}\n  here {of_router}')
        self.assertEqual([], found, '\n'.join(found))
        self.assertGreater(casts, 50)

    def test_batches_of_the_recorded_corpus(self):
        event = test_computes.event
        placed, elsewhere = IDS['placed'], IDS['elsewhere']
        for batch in (
            [event(placed, 'network-vif-plugged', 'a'), event(placed, 'network-vif-unplugged', 'b')],
            [
                event(server, 'network-vif-plugged', str(number))
                for number, server in enumerate((placed, elsewhere) * 2)
            ],
            [event(placed), event(IDS['cohost'])],
            [event(IDS['migrating'], 'volume-extended', 'v')],
            [event(placed, 'volume-extended', 'v', status='failed')],
            [event(placed, 'power-update', 'POWER_ON'), event(elsewhere, 'power-update', 'POWER_OFF')],
            [event(IN_CELL0), event(placed)],
            [event(placed, 'network-changed', 'p'), event(placed), event(placed, 'network-changed', 'p')],
        ):
            of_nova, of_router = self.both(*batch)
            self.assertEqual(of_nova, of_router, batch)
            self.assertNotEqual([], of_router[2])

    def test_intended_differences(self):
        event, placed = test_computes.event, IDS['placed']
        # Nova casts to where a deleted server was.
        of_nova, of_router = self.both(event(IDS['deleted']), event(placed))
        self.assertEqual((200, [200, 200]), of_nova[:2])
        self.assertEqual((207, [404, 200]), of_router[:2])
        # Nova fails the whole batch for a server that waits for the scheduler.
        of_nova, of_router = self.both(event(UNSCHEDULED), event(placed))
        self.assertEqual((500, None, []), of_nova)
        self.assertEqual((207, [422, 200]), of_router[:2])
        # Nova drops a power-update with an unknown tag, and answers 200.
        of_nova, of_router = self.both(event(placed, 'power-update', 'REBOOT'), event(placed))
        self.assertEqual((200, [200, 200]), of_nova[:2])
        self.assertEqual((207, [400, 200]), of_router[:2])
        self.assertEqual(of_nova[2], of_router[2])

    def test_instance_actions(self):
        event, placed = test_computes.event, IDS['placed']

        def actions():
            with self.cloud.database(self.cloud.databases['cell1']) as connection:
                rows = connection.execute(sa.text('select * from instance_actions order by id')).all()
                connection.execute(sa.text('delete from instance_actions'))
            return [row._asdict() for row in rows]

        for tag in ('v', 'POWER_ON', 'POWER_OFF'):
            request = _request(event(placed, 'volume-extended' if tag == 'v' else 'power-update', tag))
            actions()
            rows = []
            for port in (self.nova_port, self.router.port):
                self.send(port, request)
                rows.append(actions())
            (of_nova,), (of_router,) = rows
            for its_own in ('id', 'request_id', 'start_time', 'created_at', 'updated_at'):
                self.assertIs(type(of_nova[its_own]), type(of_router[its_own]), its_own)
                del of_nova[its_own], of_router[its_own]
            self.assertEqual(of_nova, of_router)

    def test_behind_a_load_balancer_there_is_one_api(self):
        if shutil.which('haproxy') is None:
            services.missing('HAProxy', 'it is not installed')
        port = deployment.free_port()
        router = self.useFixture(test_computes.Router(self.cloud))
        config = self.cloud.folder / 'haproxy.cfg'
        config.write_text(_moved(HAPROXY.read_text(), port, router.port, self.nova_port))
        self.useFixture(deployment.Process('haproxy', ['haproxy', '-db', '-f', config], self.cloud.folder))
        deployment.wait_until(lambda: deployment.listens(port), 'HAProxy')
        url = f'http://127.0.0.1:{port}'
        sdk = openstack.connection.Connection(
            auth_type='none', compute_endpoint_override=f'{url}/v2.1', compute_api_version='2.1'
        )
        self.addCleanup(sdk.close)
        self.assertEqual([], list(sdk.compute.flavors()))
        routed = len(_routed(router))
        for base in ('', '/compute'):
            for path in ('/v2.1', '/v2', f'/v2.1/{IDS["project"]}'):
                answer = requests.post(
                    f'{url}{base}{path}/os-server-external-events',
                    json={'events': [test_computes.event(IDS['placed'])]},
                    timeout=deployment.PATIENCE,
                )
                self.assertEqual((200, [200]), (answer.status_code, _codes(answer)), (base, path))
        (outcome,) = sdk.compute.create_server_external_events([test_computes.event(IDS['elsewhere'])])
        self.assertEqual(200, outcome.code)
        self.assertEqual(7, len(_routed(router)) - routed)
        self.assertEqual(7, sum(len(consumer.take()) for consumer in self.casts))
        # Everything else is Nova's.
        self.assertEqual(404, sdk.compute.get(f'/servers/{IDS["unknown"]}').status_code)
        self.assertEqual(200, requests.get(url, timeout=deployment.PATIENCE).status_code)
        self.assertEqual(7, len(_routed(router)) - routed)
        # And so is all, once we are gone.
        router.api.stop()
        path = f'{url}/v2.1/os-server-external-events'
        batch = {'events': [test_computes.event(IDS['placed'])]}
        deployment.wait_until(
            lambda: requests.post(path, json=batch, timeout=deployment.PATIENCE).status_code == 200,
            'Nova in our place',
        )
        self.assertEqual(1, sum(len(consumer.take()) for consumer in self.casts))


def _routed(router):
    """The batches that the router has answered."""
    return re.findall('batch of [0-9]+ events', router.api.text())


def _request(*batch):
    messages = {'id': '', 'request': {'version': '2.93', 'events': list(batch)}, 'answer': {}}
    (case,) = cases.expand(messages, '')
    return case.request


def _codes(answer):
    return [event['code'] for event in answer.json()['events']]


def _moved(text, port, events_port, nova_port):
    """The documentation's HAProxy, on the ports of the test."""
    text = text.replace('bind 0.0.0.0:8774', f'bind 127.0.0.1:{port}')
    text = text.replace('192.0.2.11:8790', f'127.0.0.1:{events_port}')
    text = re.sub('.*192.0.2.12:8790.*\n', '', text)
    return text.replace('192.0.2.21:8774', f'127.0.0.1:{nova_port}')
