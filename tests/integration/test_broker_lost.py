"""The log of each process while RabbitMQ is killed and started again. A node of our own, and SQLite."""

from __future__ import annotations

import os
import re
import time

from tests import base
from tests.faults import broker
from tests.integration import deployment
from tests.integration import services

#: Seconds for which RabbitMQ is stopped, and the hosts of the agent process.
AWAY = float(os.environ.get('EER_TEST_BROKER_AWAY', 3.0))
HOSTS = [f'compute-{number}' for number in range(20)]

#: A line at WARNING or above.
PROBLEM = re.compile(r'^\S+ \S+ \d+ (WARNING|ERROR|CRITICAL) ', re.MULTILINE)

SERVER = '00000001-0000-4000-8000-000000000000'
EVENT = {'name': 'network-changed', 'server_uuid': SERVER}


class BrokerLostTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def test_one_warning_and_one_message_when_it_is_available_again(self):
        rabbit = self.useFixture(broker.Broker())
        router = self.useFixture(
            deployment.Deployment(
                transport_url=rabbit.url(),
                connection=f'sqlite:///{self.useFixture(services.Folder()).path}/router.sqlite',
                hosts=HOSTS,
                hosts_of={SERVER: [HOSTS[0]]},
                api__workers=1,
                resolver__workers=1,
                delivery__ack_timeout=1.0,
            )
        )
        # An API worker answers before its resolver has all its connections.
        router.api.wait_for('is ready')
        self.assertEqual((200, [200]), router.post(EVENT))
        deployment.wait_until(lambda: len(router.handled()) == 1, 'the first event handled')
        # The first processes on a new broker, without exchanges, lose no connection.
        for process in router.processes:
            self.assertNotIn('is unavailable', process.text())
        processes = [router.api, router.resolver, router.agents]
        before = [len(process.text()) for process in processes]
        rabbit.kill()
        for process in processes:
            process.wait_for('is unavailable')
        until = time.monotonic() + AWAY
        posted = 0
        while time.monotonic() < until:
            self.assertEqual((200, [200]), router.post(EVENT))
            posted += 1
            time.sleep(0.2)
        rabbit.start()
        for process in processes:
            process.wait_for('is available again')
        deployment.wait_until(lambda: len(router.handled()) == 1 + posted, 'all events handled')
        for process, start in zip(processes, before, strict=True):
            lines = process.text()[start:].splitlines()
            problems = [line for line in lines if PROBLEM.match(line)]
            self.assertEqual(1, len(problems), '\n'.join([process.name, *lines]))
            self.assertIn('rabbitmqctl status', problems[0])
            again = [line for line in lines if 'is available again' in line]
            self.assertEqual(1, len(again), '\n'.join([process.name, *lines]))
