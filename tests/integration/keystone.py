"""A Keystone of the test's own, as PyPI has it: SQLite, fernet tokens, nothing mocked.

Its requirements are not those of the service, so it has a virtual environment of
its own: in ``EER_TEST_KEYSTONE_VENV``, or else in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sqlite3
import subprocess

from cryptography import fernet
import fixtures
from keystoneauth1 import session
from keystoneauth1.identity import v3
from keystoneclient.v3 import client as keystoneclient

from tests.integration import deployment
from tests.integration import venvs

REQUIREMENTS = ('keystone>=28.0', 'cheroot>=11.0')

#: Of every user that the tests make.
PASSWORD = 'pass-4f1d7c2b'

_CONFIGURATION = """
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{folder}/keystone.sqlite
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/receipts
[credential]
key_repository = {folder}/credentials
# NOTE: as in production. Each change removes the affected entries of this cache, so that a
# revoked token becomes invalid immediately.
[cache]
enabled = true
backend = oslo_cache.dict
[identity]
password_hash_rounds = 4
[token]
expiration = {expiration}
"""


class Keystone(fixtures.Fixture):
    """A Keystone that serves on a port of its own, with an administrator.

    :ivar url: where it answers, with the version
    :ivar admin: a ``keystoneauth1`` session of the administrator
    :ivar client: the administrator's ``keystoneclient``
    :ivar process: the process that serves; see :meth:`restart`
    """

    def __init__(self, *, certificate=(), ca=None):
        """:param certificate: files of a certificate and its key, to serve HTTPS
        :param ca: file of the authority to trust
        """
        self._certificate = certificate
        self._ca = ca and str(ca)

    def _setUp(self):
        self._bin = environment() / 'bin'
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.port = deployment.free_port()
        self.url = f'{"https" if self._certificate else "http"}://127.0.0.1:{self.port}/v3'
        self._configure('keystone.conf', expiration=3600)
        for keys in ('fernet', 'receipts'):
            self._make_keys(self.folder / keys)
        self._copy_database()
        self.process = self.serve('keystone', self.port)
        self.admin = self.session('admin', 'admin')
        self.client = keystoneclient.Client(session=self.admin, region_name='identity')

    def _make_keys(self, folder):
        """Do what ``keystone-manage fernet_setup`` does."""
        folder.mkdir(mode=0o700)
        for name in ('0', '1'):
            (folder / name).write_bytes(fernet.Fernet.generate_key())

    def _copy_database(self):
        """Take the database of a new Keystone.

        It is made once, in the virtual environment, because the commands take long.
        """
        own = self.folder / 'keystone.sqlite'
        template = self._bin.parent / 'new-keystone.sqlite'
        if not template.exists():
            self._manage('db_sync')
            urls = [word for name in ('public', 'internal') for word in (f'--bootstrap-{name}-url', self.url)]
            region = ('--bootstrap-region-id', 'identity')
            self._manage('bootstrap', '--bootstrap-password', PASSWORD, *urls, *region)
            copy = template.with_suffix(f'.{os.getpid()}')
            shutil.copyfile(own, copy)
            copy.replace(template)
        shutil.copyfile(template, own)
        with contextlib.closing(sqlite3.connect(own)) as database, database:
            database.execute('UPDATE endpoint SET url = ?', (self.url,))

    def restart(self):
        """Serve again, after ``process.stop()``."""
        self.process.start()
        self._wait_for(self.process, self.port)

    def serve(self, name, port, *, expiration=3600):
        """A further process over the same data.

        :param expiration: seconds that its new tokens are valid
        """
        config = self._configure(f'{name}.conf', expiration=expiration)
        process = self.useFixture(
            deployment.Process(
                name,
                [
                    self._bin / 'python',
                    # NOTE: not with this folder in its path, which has a keystone too.
                    '-P',
                    pathlib.Path(__file__).with_name('keystone_server.py'),
                    port,
                    *self._certificate,
                ],
                self.folder,
                environment={**os.environ, 'OS_KEYSTONE_CONFIG_FILES': str(config)},
            )
        )
        self._wait_for(process, port)
        return process

    def _wait_for(self, process, port):
        deployment.wait_until(
            lambda: deployment.listens(port) or process.process.poll() is not None, f'Keystone on port {port}'
        )
        if process.process.poll() is not None:
            raise AssertionError(f'Keystone ended:\n{process.text()[-4000:]}')

    def requests(self):
        """The requests that it has answered so far: method, path, status."""
        lines = self.process.log.read_text(errors='replace').splitlines()
        return [tuple(line.split()[1:]) for line in lines if line.startswith('REQUEST ')]

    def user(self, name, *roles, project='service'):
        """A user with roles on a project, both made where they are missing.

        :returns: a session of that user
        """
        projects = {each.name: each for each in self.client.projects.list()}
        if project not in projects:
            projects[project] = self.client.projects.create(project, domain='default')
        user = self.client.users.create(name, domain='default', password=PASSWORD)
        known = {each.name: each for each in self.client.roles.list()}
        for role in roles:
            if role not in known:
                known[role] = self.client.roles.create(role)
            self.client.roles.grant(known[role], user=user, project=projects[project])
        return self.session(name, project)

    def session(self, user, project=None, *, url=None, **scope):
        """A session of a user, scoped to a project or as described by ``scope``."""
        if project:
            scope |= {'project_name': project, 'project_domain_id': 'default'}
        auth = v3.Password(
            auth_url=url or self.url, username=user, password=PASSWORD, user_domain_id='default', **scope
        )
        return session.Session(auth=auth, verify=self._ca or True)

    def endpoint(self, service_type, url, *, region, name='nova'):
        """An entry of the catalog, for a region of its own."""
        known = self.client.services.list(type=service_type)
        service = known[0] if known else self.client.services.create(name, type=service_type)
        self.client.regions.create(region)
        for interface in ('public', 'internal'):
            self.client.endpoints.create(service, url, interface=interface, region=region)

    def options(self, user, *, url=None, **others):
        """``[keystone_authtoken]`` of a deployment that validates tokens as this user."""
        values = {
            'www_authenticate_uri': url or self.url,
            'auth_url': url or self.url,
            'auth_type': 'password',
            'username': user,
            'password': PASSWORD,
            'user_domain_id': 'default',
            'project_name': 'service',
            'project_domain_id': 'default',
            'region_name': 'identity',
            **others,
        }
        return {f'keystone_authtoken__{name}': value for name, value in values.items()}

    def _configure(self, name, *, expiration):
        path = self.folder / name
        path.write_text(_CONFIGURATION.format(folder=self.folder, expiration=expiration))
        return path

    def _manage(self, command, *arguments):
        done = subprocess.run(
            [
                self._bin / 'keystone-manage',
                '--config-file',
                self.folder / 'keystone.conf',
                command,
                *arguments,
            ],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=2 * deployment.PATIENCE,
        )
        if done.returncode:
            raise AssertionError(f'keystone-manage {command}: {done.stdout}{done.stderr}')


def environment():
    """The virtual environment of Keystone, which is created if it does not exist.

    :returns: its folder
    """
    return venvs.make('keystone', REQUIREMENTS, variable='EER_TEST_KEYSTONE_VENV')
