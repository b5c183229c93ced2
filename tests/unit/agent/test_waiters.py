import threading
import types

import fixtures

from external_events_router import events
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

    def test_wait_for_several_events(self):
        first, second = self._plugged('p1'), self._plugged('p2')
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1'), (PLUGGED, 'p2')]) as expected:
            self.assertTrue(self.waiters.deliver(first).waiter)
            self.assertEqual({(PLUGGED, 'p2')}, expected.missing)
            self.assertEqual({(PLUGGED, 'p1'): first}, expected.arrived)
            threading.Timer(0.01, self.waiters.deliver, [second]).start()
            self.assertEqual(
                {(PLUGGED, 'p1'): first, (PLUGGED, 'p2'): second}, expected.wait(helpers.PATIENCE)
            )

    def test_other_events_are_not_accepted(self):
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]) as expected:
            self.assertFalse(self.waiters.deliver(self._plugged('p2')).waiter)
            self.assertFalse(self.waiters.deliver(self._plugged(server=helpers.OTHER_SERVER)).waiter)
            self.assertFalse(self.waiters.deliver(helpers.event('network-vif-unplugged', tag='p1')).waiter)
            error = self.assertRaises(exceptions.WaitTimeout, expected.wait, 0.01)
        self.assertIn(
            "network-vif-plugged of server 2c1f0e8c-6d0b-4f0e-9a0a-3c5a3f2f6f41 with tag 'p1'", str(error)
        )

    def test_server_uuid_in_another_form_matches(self):
        with self.waiters.expect(helpers.SERVER.upper(), [(PLUGGED, None)]) as expected:
            self.assertTrue(self.waiters.deliver(self._plugged(None)).waiter)
            expected.wait(0)

    def test_failed_event_is_returned_as_an_event(self):
        failed = self._plugged(status='failed')
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1'), (PLUGGED, 'p2')]) as expected:
            self.assertEqual((), expected.failed)
            self.waiters.deliver(failed)
            self.assertEqual((failed,), expected.failed)
            self.assertEqual({(PLUGGED, 'p1'): failed}, expected.wait(until_failed=True))
            self.assertRaises(exceptions.WaitTimeout, expected.wait, 0.01)

    def test_every_waiter_receives_the_event(self):
        one = self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')])
        two = self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')])
        with one, two:
            self.waiters.deliver(self._plugged())
            self.assertEqual(one.wait(0), two.wait(0))

    def test_first_event_is_kept(self):
        first = self._plugged()
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]) as expected:
            self.waiters.deliver(first)
            self.assertTrue(self.waiters.deliver(self._plugged(status='failed')).waiter)
            self.assertEqual({(PLUGGED, 'p1'): first}, expected.wait(0))

    def test_events_before_and_after_the_wait_are_not_received(self):
        expected = self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')])
        self.assertFalse(self.waiters.deliver(self._plugged()).waiter)
        with expected:
            self.assertRaises(exceptions.WaitTimeout, expected.wait, 0)
        self.assertFalse(self.waiters.deliver(self._plugged()).waiter)

    def test_duration_of_the_wait_is_reported(self):
        now = helpers.Time()
        self.useFixture(
            fixtures.MonkeyPatch(f'{waiters.__name__}.time', types.SimpleNamespace(monotonic=now))
        )
        with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]):
            now.now += 1.5
            with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]):
                now.now += 1.0
                self.assertEqual(events.Handling(True, 2500), self.waiters.deliver(self._plugged()))
        now.now += 3.0
        self.assertEqual(events.Handling(False, -3000), self.waiters.deliver(self._plugged()))
        self.assertIs(events.NOT_HANDLED, self.waiters.deliver(self._plugged('p2')))
        now.now += waiters.REMEMBERED_SECONDS
        self.assertIs(events.NOT_HANDLED, self.waiters.deliver(self._plugged()))

    def test_few_ended_waits_are_remembered(self):
        self.useFixture(fixtures.MonkeyPatch(f'{waiters.__name__}.REMEMBERED', 2))
        for tag in ('p1', 'p2', 'p3', 'p1'):
            with self.waiters.expect(helpers.SERVER, [(PLUGGED, tag)]):
                pass
        known = [self.waiters.deliver(self._plugged(tag)).wait_ms is not None for tag in ('p1', 'p2', 'p3')]
        self.assertEqual([True, False, True], known)

    def test_wait_that_ended_with_an_error_is_removed(self):
        try:
            with self.waiters.expect(helpers.SERVER, [(PLUGGED, 'p1')]):
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        self.assertFalse(self.waiters.deliver(self._plugged()).waiter)

    def test_empty_wait_returns_immediately(self):
        with self.waiters.expect(helpers.SERVER, []) as expected:
            self.assertEqual({}, expected.wait(0))

    def test_stop_ends_the_waits(self):
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

    def test_invalid_arguments(self):
        self.assertRaises(ValueError, self.waiters.expect, 'no uuid', [])
        self.assertRaises(ValueError, self.waiters.expect, helpers.SERVER, [('network-vif-pluged', None)])
