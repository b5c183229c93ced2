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
        """What came of it: None, or the name of an error."""
        try:
            with self.gate.cast():
                self.tried += 1
                if error:
                    raise error
        except exceptions.RouterError as exc:
            return type(exc).__name__
        return None

    def test_one_in_a_while_tries_and_the_others_fail_at_once(self):
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

    def test_host_without_a_queue_says_that_the_broker_is_there(self):
        self.cast(exceptions.BrokerUnavailable(reason='away'))
        self.clock.now += gate.PAUSE
        self.assertEqual('HostUnreachable', self.cast(exceptions.HostUnreachable(host='a')))
        self.assertIsNone(self.cast())
