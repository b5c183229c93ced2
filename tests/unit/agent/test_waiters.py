import threading

from external_events_router import exceptions
from external_events_router.agent import waiters
from tests import base
from tests.unit.agent import helpers

PLUGGED = 'network-vif-plugged'


class TestWaiters(base.TestCase):
    def setUp(self):
        super().setUp()
        self.waiters = waiters.Waiters()

    def _plugged(self, tag='p1', **kwargs):
        return helpers.event(PLUGGED, tag=tag, **kwargs)

    def test_several_events(self):
        first, second = self._plugged('p1'), self._plugged('p2')
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1'), (PLUGGED, 'p2')]) as expected:
            self.assertTrue(self.waiters.deliver(first))
            self.assertEqual({(PLUGGED, 'p2')}, expected.missing)
            self.assertEqual({(PLUGGED, 'p1'): first}, expected.arrived)
            threading.Timer(0.01, self.waiters.deliver, [second]).start()
            self.assertEqual(
                {(PLUGGED, 'p1'): first, (PLUGGED, 'p2'): second}, expected.wait(helpers.PATIENCE)
            )

    def test_others_are_not_taken(self):
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]) as expected:
            self.assertFalse(self.waiters.deliver(self._plugged('p2')))
            self.assertFalse(self.waiters.deliver(self._plugged(server=helpers.OTHER_SERVER)))
            self.assertFalse(self.waiters.deliver(helpers.event('network-vif-unplugged', tag='p1')))
            error = self.assertRaises(exceptions.WaitTimeout, expected.wait, 0.01)
        self.assertIn(
            "network-vif-plugged of server 2c1f0e8c-6d0b-4f0e-9a0a-3c5a3f2f6f41 with tag 'p1'", str(error)
        )

    def test_server_in_another_form(self):
        with self.waiters.expect(helpers.SERVER.upper(), [(PLUGGED, None)]) as expected:
            self.assertTrue(self.waiters.deliver(self._plugged(None)))
            expected.wait(0)

    def test_failed_is_an_event_like_others(self):
        failed = self._plugged(status='failed')
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1'), (PLUGGED, 'p2')]) as expected:
            self.assertEqual((), expected.failed)
            self.waiters.deliver(failed)
            self.assertEqual((failed,), expected.failed)
            self.assertEqual({(PLUGGED, 'p1'): failed}, expected.wait(until_failed=True))
            self.assertRaises(exceptions.WaitTimeout, expected.wait, 0.01)

    def test_every_waiter_gets_it(self):
        one = self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')])
        two = self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')])
        with one, two:
            self.waiters.deliver(self._plugged())
            self.assertEqual(one.wait(0), two.wait(0))

    def test_first_one_stays(self):
        first = self._plugged()
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]) as expected:
            self.waiters.deliver(first)
            self.assertTrue(self.waiters.deliver(self._plugged(status='failed')))
            self.assertEqual({(PLUGGED, 'p1'): first}, expected.wait(0))

    def test_not_before_and_not_after(self):
        expected = self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')])
        self.assertFalse(self.waiters.deliver(self._plugged()))
        with expected:
            self.assertRaises(exceptions.WaitTimeout, expected.wait, 0)
        self.assertFalse(self.waiters.deliver(self._plugged()))

    def test_left_by_an_error(self):
        try:
            with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]):
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        self.assertFalse(self.waiters.deliver(self._plugged()))

    def test_nothing_expected(self):
        with self.waiters.expect(helpers.SERVER, []) as expected:
            self.assertEqual({}, expected.wait(0))

    def test_stop_wakes(self):
        errors = []

        def wait():
            with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')], timeout=helpers.PATIENCE) as expected:
                entered.set()
                try:
                    expected.wait()
                except exceptions.AgentStopped as exc:
                    errors.append(exc)

        entered = threading.Event()
        thread = threading.Thread(target=wait)
        thread.start()
        self.assertTrue(entered.wait(helpers.PATIENCE))
        self.waiters.stop()
        thread.join(helpers.PATIENCE / 2)
        self.assertEqual(1, len(errors))
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]) as expected:
            self.assertRaises(exceptions.AgentStopped, expected.wait)

    def test_bad_arguments(self):
        self.assertRaises(ValueError, self.waiters.expect, 'no uuid', [])
        self.assertRaises(ValueError, self.waiters.expect, helpers.SERVER, [('network-vif-pluged', None)])
