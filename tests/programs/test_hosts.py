"""``external-events-manage host``."""

import json

from external_events_router.resolver import host_states
from external_events_router.resolver.host_map import sql
from tests.programs import test_manage
from tests.unit.db import databases

SERVER = '00000001-0000-4000-8000-000000000000'


class TestHosts(test_manage.ManageTestCase):
    def setUp(self):
        super().setUp()
        self.database = databases.database(f'sqlite:///{self.folder}/router.db')
        self.addCleanup(self.database.close)
        databases.create_schema(self.database)
        sql.SqlHostMap(self.database).assign(SERVER, 'compute-typo')
        states = host_states.HostStateStore(self.database)
        states.write('resolver:0', reported=['compute-1', 'compute-2'], breakers=['compute-2'])

    def test_list(self):
        every, some = self.manage('host list --no-queues -f json', 'host list --no-queues --problem -f json')
        self.assertEqual(0, every[0], every)
        rows = {row['host']: row for row in json.loads(every[1])}
        self.assertEqual(['compute-1', 'compute-2', 'compute-typo'], list(rows))
        self.assertEqual('', rows['compute-1']['problem'])
        self.assertRegex(rows['compute-1']['last_report'], r'^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$')
        self.assertEqual(
            (1, 'does not acknowledge'), (rows['compute-2']['breakers_open'], rows['compute-2']['problem'])
        )
        typo = rows['compute-typo']
        self.assertEqual(
            (1, 'never', 'never reported', 'unknown'),
            (typo['servers'], typo['last_report'], typo['problem'], typo['queue']),
        )
        self.assertEqual(['compute-2', 'compute-typo'], [row['host'] for row in json.loads(some[1])])

    def test_broker_that_cannot_be_asked(self):
        with self.config.open('a') as config:
            config.write('[DEFAULT]\ntransport_url = rabbit://guest:guest@127.0.0.1:1/\n')
        (answer,) = self.manage('host list -f json')
        self.assertEqual(0, answer[0], answer)
        self.assertIn('The state of the queues is not known', answer[2])
        self.assertEqual({'unknown'}, {row['queue'] for row in json.loads(answer[1])})
