"""URLs of cell mappings that are templates."""

from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import templates
from tests import base

DATABASE = 'mysql+pymysql://nova:s3:cret@Db.example:3306/nova_api?charset=utf8mb4#part'
BROKERS = 'rabbit://one:p1@rabbit-1:5671,two:p2@rabbit-2:5672/vhost?ssl=1'


class FillTest(base.TestCase):
    def fill(self, template, source=DATABASE):
        return templates.fill(template, source, option='[nova] database_connection')

    def test_url_without_a_template_needs_no_source(self):
        self.assertEqual('none:///', self.fill('none:///', None))
        self.assertEqual('mysql://a:b@c/d', self.fill('mysql://a:b@c/d'))

    def test_every_part_of_the_url(self):
        template = '{scheme}|{username}|{password}|{hostname}|{port}|{path}|{query}|{fragment}'
        self.assertEqual(
            'mysql+pymysql|nova|s3:cret|Db.example|3306|nova_api|charset=utf8mb4|part', self.fill(template)
        )

    def test_another_database_on_the_same_server(self):
        self.assertEqual(
            'mysql+pymysql://nova:s3:cret@Db.example/nova_cell1?charset=utf8mb4',
            self.fill('{scheme}://{username}:{password}@{hostname}/nova_cell1?{query}'),
        )

    def test_several_brokers(self):
        template = 'rabbit://{username1}:{password1}@{hostname1}:{port1},{username2}:{password2}@{hostname2}/'
        self.assertEqual('rabbit://one:p1@rabbit-1:5671,two:p2@rabbit-2/', self.fill(template, BROKERS))
        self.assertEqual('vhost', self.fill('{path}', BROKERS))

    def test_ipv6_address(self):
        self.assertEqual('fd00::1 5672', self.fill('{hostname} {port}', 'rabbit://a:b@[fd00::1]:5672/'))

    def test_missing_source(self):
        refused = self.assertRaises(exceptions.ConfigurationError, self.fill, 'x://{hostname}/', None)
        self.assertIn('[nova] database_connection', str(refused))

    def test_part_that_the_source_does_not_have(self):
        refused = self.assertRaises(
            exceptions.ConfigurationError, self.fill, 'x://{hostname}:{port}/', 'rabbit://host/'
        )
        self.assertIn('port', str(refused))

    def test_other_braces_are_kept(self):
        self.assertEqual('x://u:{Db.example@pa{nonsense}ss', self.fill('x://u:{{{hostname}@pa{nonsense}ss'))
