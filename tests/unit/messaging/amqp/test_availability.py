"""One message for all connections that lose their broker."""

from __future__ import annotations

import logging

from external_events_router.messaging import driver_log
from external_events_router.messaging.amqp import availability
from tests import base


class AvailabilityTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.now = 100.0
        self.state = availability.Availability('broker:5672', clock=lambda: self.now)
        self.connections = [Connection() for _ in range(50)]

    def lines(self, level: str) -> list[str]:
        return [line for line in self.logs.output.splitlines() if f' {level} ' in line]

    def test_one_loss_of_many_connections(self) -> None:
        for _attempt in range(5):
            for connection in self.connections:
                self.state.lost(connection, 'casts: connection refused')
            self.now += 4.0
        for connection in self.connections:
            self.assertTrue(self.state.was_lost(200.0))
            self.state.connected(connection)
        self.assertFalse(self.state.was_lost(200.0))
        self.assertTrue(self.state.was_lost(101.0))
        (warning,) = self.lines('WARNING')
        self.assertIn('RabbitMQ at broker:5672 is unavailable: casts: connection refused', warning)
        (info,) = self.lines('INFO')
        self.assertIn('RabbitMQ at broker:5672 is available again, after 20 s', info)

    def test_reminder_each_minute(self) -> None:
        for _second in range(130):
            self.state.lost(self.connections[0], 'no route')
            self.now += 1.0
        warnings = self.lines('WARNING')
        self.assertEqual(3, len(warnings))
        self.assertIn('is unavailable since 60 s: no route', warnings[1])

    def test_next_loss_is_logged_immediately(self) -> None:
        for _loss in range(2):
            self.state.lost(self.connections[0], 'reset')
            self.now += 1.0
            self.state.connected(self.connections[0])
            self.now += availability.STABLE + 1.0
        self.assertEqual(2, len(self.lines('WARNING')))
        self.assertEqual(2, len(self.lines('INFO')))

    def test_broker_that_ends_each_new_connection(self) -> None:
        for _second in range(59):
            self.state.lost(self.connections[0], 'closed')
            self.state.connected(self.connections[0])
            self.now += 1.0
        self.assertEqual(1, len(self.lines('WARNING')))
        self.assertEqual(1, len(self.lines('INFO')))

    def test_unused_connection_of_a_pool_is_not_waited_for(self) -> None:
        self.state.lost(self.connections[0], 'reset', lasting=False)
        self.assertTrue(self.state.was_lost(200.0))
        self.state.connected(self.connections[1])
        self.assertFalse(self.state.was_lost(200.0))

    def test_closed_connection_is_not_waited_for(self) -> None:
        self.state.lost(self.connections[0], 'reset')
        self.state.alarm.add(self.connections[1], 'memory')
        self.state.closed(self.connections[0])
        del self.connections[0]
        self.assertFalse(self.state.was_lost(200.0))

    def test_an_alarm_is_logged_once(self) -> None:
        for connection in self.connections:
            self.state.alarm.add(connection, 'low on memory')
        for connection in self.connections:
            self.state.alarm.remove(connection)
        (warning,) = self.lines('WARNING')
        self.assertIn('RabbitMQ at broker:5672 accepts no messages: low on memory', warning)
        self.assertEqual(1, len(self.lines('INFO')))

    def test_one_object_for_a_broker(self) -> None:
        first = availability.of(['one:5672', 'two:5672'])
        self.assertIs(first, availability.of(['two:5672', 'one:5672']))
        self.assertIsNot(first, availability.of(['one:5672']))


class DriverLogTest(base.TestCase):
    """Messages of oslo.messaging about single connections."""

    def setUp(self) -> None:
        super().setUp()
        driver_log.install()
        self.log = logging.getLogger(driver_log.CONNECTIONS)

    def test_messages_about_one_connection_are_at_debug(self) -> None:
        info = {'connection_id': 'x', 'hostname': 'h', 'port': 1, 'err_str': 'reset', 'sleep_time': 1}
        text = (
            '[%(connection_id)s] AMQP server on %(hostname)s:%(port)s is unreachable: %(err_str)s. Trying'
            ' again in %(sleep_time)d seconds.'
        )
        self.log.error(text, info)
        self.assertNotIn('ERROR', self.logs.output)

    def test_other_messages_stay_while_the_broker_is_available(self) -> None:
        self.log.error('Unable to connect to AMQP server on x after 1 tries: refused')
        self.assertIn('ERROR', self.logs.output)

    def test_other_messages_are_at_debug_while_the_broker_is_unavailable(self) -> None:
        connection, state = Connection(), availability.of(['driver-log-test:5672'])
        state.lost(connection, 'refused')
        self.addCleanup(state.closed, connection)
        self.log.error('Unable to connect to AMQP server on x after 1 tries: refused')
        self.assertNotIn('ERROR', self.logs.output)


class Connection:
    """A connection that can be lost."""
