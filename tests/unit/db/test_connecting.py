"""The URL of a connection."""

import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import connecting
from external_events_router.db import session
from tests import base
from tests.unit.db import databases


def query(url, parameters=''):
    return dict(connecting.bounded(url, parameters, read_timeout=7.0).query)


class TestBounded(base.TestCase):
    def test_every_wait_has_a_time_limit(self):
        mysql = query('mysql+pymysql://router@db/router')
        self.assertEqual(('5', '7', '7'), tuple(mysql[f'{n}_timeout'] for n in ('connect', 'read', 'write')))
        postgresql = query('postgresql+psycopg://router@db/router')
        self.assertEqual(('5', '10000'), (postgresql['connect_timeout'], postgresql['tcp_user_timeout']))
        self.assertEqual('5.0', query('sqlite:////var/lib/router.db')['timeout'])

    def test_client_limits_the_waits_for_postgresql(self):
        options = 'postgresql+psycopg://h/d?options=-c%20statement_timeout%3D'
        for url, expected in (
            ('postgresql+psycopg://h/d', 11.0),
            (f'{options}60000', 61.0),
            (f'{options}5min', 301.0),
            (f'{options}0', None),
            ('postgresql+psycopg://h/d?options=-c%20work_mem%3D1', None),
            ('mysql+pymysql://h/d', None),
        ):
            self.assertEqual(expected, connecting.client_limit(sa.make_url(url), 10.0), url)

    def test_time_limits_of_the_operator_are_kept(self):
        self.assertEqual('60', query('mysql://router@db/router?read_timeout=60')['read_timeout'])
        both = query('postgresql://router@db/router?connect_timeout=9', 'keepalives_idle=30&sslmode=require')
        self.assertEqual(
            ('9', '30', 'require'), (both['connect_timeout'], both['keepalives_idle'], both['sslmode'])
        )

    def test_supported_drivers(self):
        for given, used in (
            ('mysql', 'mysql+pymysql'),
            ('mariadb', 'mysql+pymysql'),
            ('mariadb+pymysql', 'mysql+pymysql'),
            ('mysql+mysqldb', 'mysql+mysqldb'),
            ('postgresql', 'postgresql+psycopg'),
            ('sqlite', 'sqlite'),
        ):
            url = connecting.bounded(f'{given}://router@db/router', read_timeout=1.0)
            self.assertEqual(used, url.drivername)

    def test_unsupported_urls(self):
        for url, expected in (
            (None, 'is not set'),
            ('', 'is not set'),
            ('s3cret', 'is not a database URL'),
            ('mysql://router:s3cret@db:port/router', 'is not a database URL'),
            ('mysql://router:s3cret@[::1/router', 'is not a database URL'),
            ('oracle://router:s3cret@db/router', 'oracle is not supported'),
            ('postgres://router:s3cret@db/router', 'postgres is not supported'),
            ('mysql+pymysql://router:s3cret%E2%82%AC@db/router', 'the password has characters outside of'),
        ):
            refused = self.assertRaises(
                exceptions.ConfigurationError, connecting.bounded, url, read_timeout=1.0
            )
            self.assertIn(f'[database] connection: {expected}', str(refused))
            self.assertNotIn('s3cret', str(refused))

    def test_in_memory(self):
        for url, expected in (
            ('sqlite://', True),
            ('sqlite:///:memory:', True),
            ('sqlite:////a/file', False),
            ('mysql://db', False),
        ):
            made = connecting.bounded(url, read_timeout=1.0)
            self.assertEqual(expected, connecting.in_memory(made), url)


class TestDatabase(base.TestCase):
    """An error of the driver becomes an exception of this package, and never contains the password."""

    def test_engine_that_cannot_be_created(self):
        conf = databases.configured(None)
        for url, expected in (
            ('mysql+nonsense://router:s3cret@db/router', 'no driver for mysql+nonsense'),
            ('postgresql+psycopg2://router:s3cret@db/router', 'no driver for postgresql+psycopg2'),
            ('mysql://router:s3cret@db/router?connect_timeout=s3cret', 'the driver cannot use the URL'),
        ):
            refused = self.assertRaises(exceptions.ConfigurationError, session.Database.at, conf, url)
            self.assertIn(f'[database] connection: {expected}', str(refused))
            self.assertNotIn('s3cret', str(refused))

    def test_connection_that_the_driver_refuses(self):
        conf = databases.configured(None)
        for url in (
            'mysql://router:s3cret@127.0.0.1:1/router?nonsense=s3cret',
            'mysql://router:s3cret@127.0.0.1:1/router?charset=s3cret',
            'postgresql://router:s3cret@127.0.0.1:1/router?nonsense=s3cret',
        ):
            database = session.Database.at(conf, url)
            self.addCleanup(database.close)
            refused = self.assertRaises(exceptions.DatabaseUnavailable, self.read, database)
            self.assertIn('the driver ', str(refused))
            self.assertNotIn('s3cret', str(refused) + self.logs.output)
        self.assertNotIn('Traceback', self.logs.output)

    @session.retried
    def read(self, database):
        with database.reading():
            pass
