import threading
import time

from oslo_context import context as oslo_context

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver.drivers.agent import dispatch
from tests import base

SERVER = '11111111-1111-4111-8111-111111111111'


class Sender:
    """Notes what it is asked to deliver; fails or hangs for the hosts it is told to."""

    def __init__(self, *, errors=None, hanging=()):
        self.errors = errors or {}
        self.hanging = hanging
        self.release = threading.Event()
        self.hangs = threading.Event()
        self.sent = []
        self.request_ids = set()

    def deliver(self, ctxt, host, delivery):
        if host in self.hanging:
            self.hangs.set()
            self.release.wait(30)
        if host in self.errors:
            raise self.errors[host]
        self.sent.append((host, delivery.id))
        self.request_ids.add(oslo_context.get_current().request_id)


class DispatcherTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.ctxt = context.RequestContext()
        self.failures = {}
        self.settled = threading.Semaphore(0)

    def failed(self, host, error):
        self.failures[host] = str(error)
        self.settled.release()

    def dispatcher(self, sender, publishers=2):
        made = dispatch.Dispatcher(sender, publishers=publishers)
        self.addCleanup(made.close)
        self.addCleanup(sender.release.set)
        return made

    def deliveries(self, *hosts):
        event = events.Event('network-changed', SERVER)
        return {host: events.Delivery(f'to {host}', 'worker', 0.0, (event,)) for host in hosts}

    def test_failure_of_one_host_touches_no_other(self):
        sender = Sender(errors={'a': exceptions.HostUnreachable(host='a'), 'b': ZeroDivisionError()})
        dispatcher = self.dispatcher(sender, publishers=1)
        with dispatcher.cast(
            self.ctxt,
            self.deliveries('a', 'b', 'c', 'd'),
            on_failure=self.failed,
            until=time.monotonic() + 60,
        ):
            for _ in range(2):
                self.assertTrue(self.settled.acquire(timeout=30))
            self.assertEqual('no agent listens for host a', self.failures['a'])
            self.assertIn('ZeroDivisionError', self.failures['b'])
            dispatcher._pool.submit(lambda: None).result(30)  # the one thread is through
        self.assertEqual([('c', 'to c'), ('d', 'to d')], sender.sent)
        self.assertEqual({self.ctxt.request_id}, sender.request_ids)

    def test_hanging_broker_delays_nobody_and_what_was_not_begun_is_withdrawn(self):
        sender = Sender(hanging=('a',))
        dispatcher = self.dispatcher(sender, publishers=1)
        with dispatcher.cast(
            self.ctxt, self.deliveries('a', 'b'), on_failure=self.failed, until=time.monotonic() + 60
        ):
            self.assertTrue(sender.hangs.wait(30))
        sender.release.set()
        dispatcher._pool.submit(lambda: None).result(30)
        self.assertEqual([('a', 'to a')], sender.sent)

    def test_close_does_not_wait_for_what_hangs(self):
        sender = Sender(hanging=('a',))
        dispatcher = self.dispatcher(sender)
        with dispatcher.cast(
            self.ctxt, self.deliveries('a'), on_failure=self.failed, until=time.monotonic() + 60
        ):
            self.assertTrue(sender.hangs.wait(30))
        dispatcher.close()
        self.assertEqual([], sender.sent)
