"""What a command prints if PostgreSQL, MariaDB or RabbitMQ refuses its connection."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from tests import base
from tests import interpreter
from tests.integration import services

#: Starts as a service does, up to its checks of database and broker.
COMMAND = """
import sys
from external_events_router.messaging import rpc
from external_events_router.process import startup
from external_events_router.resolver import service

def main():
    conf = startup.load('a-command')
    rpc.check_broker(conf)
    service.check(conf)

sys.exit(startup.entry_point(main)())
"""

UNUSED_PORT = 1


class RefusedTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def start(self, *, transport_url: str = 'fake://', connection: str = 'sqlite://') -> str:
        text = f'[DEFAULT]\ntransport_url = {transport_url}\n[database]\nconnection = {connection}\n'
        (path,) = self.create_tempfiles([('router', text)])
        done = interpreter.run(COMMAND, '--config-file', path)
        self.assertEqual(1, done.returncode, done.stderr)
        line = done.stderr.splitlines()[-1]
        self.assertNotIn('Traceback', done.stderr)
        return line

    def check_database(self, found: services._Database) -> None:
        url = sa.make_url(found.url)
        user = f'eer_{uuid.uuid4().hex[:8]}'
        for changed, cause in (
            (url.set(database='eer_no_such_database'), 'the server has no database with this name; correct'),
            (url.set(port=UNUSED_PORT), 'the server cannot be reached; check the host'),
            (url.set(username=user, password='pass-5c1e'), 'the server refuses the login; correct the user'),
        ):
            line = self.start(connection=changed.render_as_string(hide_password=False))
            self.assertIn(f'[database] connection: the database is unavailable: {cause}', line)
            self.assertNotIn('pass-5c1e', line)

    def test_postgresql(self) -> None:
        self.check_database(self.useFixture(services.PostgreSQL()))

    def test_mariadb(self) -> None:
        self.check_database(self.useFixture(services.MySQL()))

    def test_rabbitmq(self) -> None:
        node = self.useFixture(services.RabbitMQ(password='pass-8d2f'))
        url = sa.make_url(node.url)
        for changed, cause in (
            (url.set(password='pass-wrong'), f'the node refuses the login of user {url.username!r}'),
            (url.set(database='no-such-vhost'), "the virtual host 'no-such-vhost' does not exist"),
            (url.set(database='/'), f'user {url.username!r} has no permissions for the virtual host'),
            (url.set(port=UNUSED_PORT), 'the node cannot be reached'),
        ):
            line = self.start(transport_url=changed.render_as_string(hide_password=False))
            self.assertIn('[DEFAULT] transport_url: RabbitMQ accepts no connection: ', line)
            self.assertIn(cause, line)
            self.assertNotIn('pass-', line)
