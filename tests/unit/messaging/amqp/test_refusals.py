"""The cause for which a node accepts no connection; the integration tests have a real node."""

from __future__ import annotations

import socket

import amqp

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker
from external_events_router.messaging.amqp import refusals
from tests import base


class RefusalsTest(base.TestCase):
    def test_answers_of_the_node(self) -> None:
        for exc, cause, remedy in (
            (amqp.AccessRefused('Login was refused', (0, 0)), 'refuses the login', 'change_password'),
            (
                amqp.NotAllowed('vhost v not found', (10, 40)),
                "virtual host 'v' does not exist",
                'add_vhost v',
            ),
            (
                amqp.NotAllowed("access to vhost 'v' refused for user 'u'", (10, 40)),
                "user 'u' has no permissions for the virtual host 'v'",
                'broker permissions',
            ),
        ):
            described = refusals.describe(exc, user='u', virtual_host='v')
            self.assertIn(cause, described)
            self.assertIn(remedy, described)

    def test_a_node_that_cannot_be_reached(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as unused:
            port = unused.getsockname()[1]
        node = broker.Node('127.0.0.1', port, 'u', 'Connection')
        made = broker.Broker([node], virtual_host='v', exchange='e')
        exc = self.assertRaises(exceptions.BrokerUnavailable, made.connect, timeout=5)
        self.assertIn(f'127.0.0.1:{port}: the node cannot be reached', str(exc))
        self.assertIn('rabbitmqctl status', str(exc))
        # The password of the URL is never part of the text.
        self.assertNotIn('Connection refused', str(exc))
