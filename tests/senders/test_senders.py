"""Unmodified senders from PyPI, with a real Keystone: their reactions to the answers of the router.

Each is installed into a separate virtual environment, once (some minutes and a
gigabyte in total): the newest release, unless the environment exists already.
"""

import json
import pathlib
import subprocess

from tests import base
from tests.integration import deployment
from tests.integration import keystone
from tests.integration import services
from tests.integration import venvs

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'
UNPLACED = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a02'
UNKNOWN = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a03'
TAG = '3c5c7f1b-8e4f-4d9a-9b62-7f201dae8b12'

#: Package of each sender, where it is not called as the sender is.
PACKAGES = {'cyborg': 'openstack-cyborg'}

#: Forms of the endpoint's URL in the catalog, and the region that has it.
ENDPOINTS = {'versioned': '{}/v2.1', 'with-project': '{}/v2.1/%(project_id)s'}

_CONFIGURATION = """
[DEFAULT]
transport_url = fake://
[database]
connection = sqlite://
[nova]
auth_type = password
auth_url = {auth_url}
username = neutron
password = {password}
user_domain_id = default
project_name = service
project_domain_id = default
region_name = {region}
"""


class SendersTest(base.TestCase):
    """One Keystone and one deployment for all."""

    TIMEOUT_SCALING_FACTOR = 10

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.identity = cls.use(keystone.Keystone())
        cls.identity.user('nova', 'service')
        cls.identity.user('neutron', 'service')
        cls.router = cls.use(
            deployment.Deployment(
                transport_url=cls.use(services.RabbitMQ()).url,
                connection=cls.use(services.MySQL()).url,
                hosts=['host-a'],
                hosts_of={SERVER: ['host-a'], UNPLACED: []},
                api__auth_strategy='keystone',
                api__none_found_status=207,
                **cls.identity.options('nova', http_connect_timeout=30),
            )
        )
        for region, form in ENDPOINTS.items():
            cls.identity.endpoint('compute', form.format(cls.router.url), region=region)

    @classmethod
    def use(cls, fixture):
        fixture.setUp()
        cls.addClassCleanup(fixture.cleanUp)
        return fixture

    def send(self, sender, server=SERVER, *, region='versioned'):
        """Have a sender post.

        :returns: the reported result, the log messages, and the events of the host
        """
        package = PACKAGES.get(sender, sender)
        folder = venvs.make(sender, (package,), variable=f'EER_TEST_{sender.upper()}_VENV')
        config = self.router.folder / f'{sender}-{region}.conf'
        config.write_text(
            _CONFIGURATION.format(auth_url=self.identity.url, password=keystone.PASSWORD, region=region)
        )
        before = len(self.router.handled())
        done = subprocess.run(
            [
                folder / 'bin' / 'python',
                # NOTE: not with this folder in its path.
                '-P',
                pathlib.Path(__file__).with_name('post.py'),
                sender,
                config,
                server,
                TAG,
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=2 * deployment.PATIENCE,
            cwd=self.router.folder,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        return json.loads(done.stdout.splitlines()[-1]), done.stderr, self.router.handled()[before:]

    def check(self, sender, expected, *events):
        """Each form of endpoint leads here; the host gets these events, and the sender is content."""
        for region in ENDPOINTS:
            answer, log, handled = self.send(sender, region=region)
            self.assertEqual(expected, answer, log)
            self.assertEqual(
                [(SERVER, *event) for event in events],
                [(each['server_uuid'], each['name'], each['tag']) for each in handled],
            )
            for word in ('WARNING', 'ERROR', 'Traceback'):
                self.assertEqual([], [line for line in log.splitlines() if line.startswith(f'{word} ')])

    def test_neutron(self):
        names = 'network-vif-plugged', 'network-changed', 'network-vif-unplugged', 'network-vif-deleted'
        self.check('neutron', None, *((name, TAG) for name in names))

    def test_neutron_reads_the_result_of_each_event(self):
        _, log, handled = self.send('neutron', UNPLACED)
        self.assertEqual([], handled)
        self.assertEqual(4, log.count('returned with failed status'), log)
        self.assertEqual(4, log.count("'code': 422"), log)

    def test_cinder(self):
        self.check('cinder', [True, True], ('volume-extended', TAG), ('volume-reimaged', TAG))

    def test_ironic(self):
        self.check('ironic', [True, True], ('power-update', 'POWER_OFF'), ('power-update', 'POWER_ON'))

    def test_ironic_is_informed_of_a_failed_delivery(self):
        for server in (UNPLACED, UNKNOWN):
            self.assertEqual([False, False], self.send('ironic', server)[0])

    def test_cyborg(self):
        self.check('cyborg', None, ('accelerator-request-bound', TAG))

    def test_cyborg_takes_a_server_that_is_on_no_host(self):
        self.assertEqual((None, []), self.send('cyborg', UNPLACED)[::2])

    def test_tempest(self):
        answer = {'name': 'network-changed', 'server_uuid': SERVER, 'status': 'completed', 'code': 200}
        self.check('tempest', [answer], ('network-changed', None))
