from external_events_router import exceptions
from external_events_router.messaging import gate
from tests import base
from tests.unit.agent import helpers


class BrokerGateTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = helpers.Time()
        self.gate = gate.BrokerGate('The broker of cell one', clock=self.clock)
        self.tried = 0

    def cast(self, error=None):
        """Run a cast; return None, or the name of its error."""
        try:
            with self.gate.cast():
                self.tried += 1
                if error:
                    raise error
        except exceptions.RouterError as exc:
            return type(exc).__name__
        return None

    def test_one_cast_per_interval_tries_the_broker_and_the_others_fail_immediately(self):
        away = exceptions.BrokerUnavailable(reason='away')
        self.assertIsNone(self.cast())
        for _ in range(5):
            self.assertEqual('BrokerUnavailable', self.cast(away))
        self.assertEqual(2, self.tried)
        self.clock.now += gate.PAUSE
        for _ in range(5):
            self.assertEqual('BrokerUnavailable', self.cast(away))
        self.assertEqual(3, self.tried)
        self.clock.now += gate.PAUSE
        self.assertIsNone(self.cast())
        self.assertIsNone(self.cast())
        self.assertEqual(1, self.logs.output.count('is unavailable; holding events'))
        self.assertEqual(1, self.logs.output.count('The broker of cell one is available again'))

    def test_missing_queue_of_a_host_shows_that_the_broker_is_available(self):
        self.cast(exceptions.BrokerUnavailable(reason='away'))
        self.clock.now += gate.PAUSE
        self.assertEqual('HostUnreachable', self.cast(exceptions.HostUnreachable(host='a')))
        self.assertIsNone(self.cast())
