"""Casts are sent immediately to an idle host, and together after a message in flight."""

import contextlib
import time

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver.drivers.agent import coalescing_sender
from tests import base


class Sender:
    """Records the casts; the test decides how each cast ends."""

    def __init__(self):
        self.casts = []

    def cast(self, casts, done, *, until):
        for index, cast in enumerate(casts):
            ids = [delivery.id for _ctxt, delivery in cast.deliveries]
            self.casts.append((cast.host, ids, lambda error=None, index=index: done(index, error)))

    def take(self):
        casts, self.casts = self.casts, []
        return [cast[:2] for cast in casts], [cast[2] for cast in casts]


class CoalescingSenderTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.sender = Sender()
        self.outbox = coalescing_sender.CoalescingSender(self.sender)
        self.failures = []
        self.blocks = contextlib.ExitStack()
        self.addCleanup(self.blocks.close)

    def cast(self, name, *hosts, size=1, seconds=60.0):
        batch = tuple(events.Event('network-changed', 'a' * 36) for _ in range(size))
        deliveries = {host: events.Delivery(name, 'worker', 0.0, batch) for host in hosts}
        block = self.outbox.cast(
            context.RequestContext(overwrite=False),
            deliveries,
            on_failure=lambda host, error: self.failures.append((name, host, str(error))),
            until=time.monotonic() + seconds,
        )
        block.__enter__()
        self.blocks.push(block)
        return block

    def test_cast_to_an_idle_host_is_sent_immediately(self):
        self.cast('1', 'a', 'b')
        sent, (done_a, _) = self.sender.take()
        self.assertEqual([('a', ['1']), ('b', ['1'])], sent)
        done_a()
        self.cast('2', 'a')
        self.assertEqual([('a', ['2'])], self.sender.take()[0])

    def test_casts_during_a_message_are_sent_together(self):
        self.cast('1', 'a')
        _, (done,) = self.sender.take()
        for name in '234':
            self.cast(name, 'a', 'b')
        sent, _ = self.sender.take()
        self.assertEqual([('b', ['2'])], sent)
        done()
        sent, (done,) = self.sender.take()
        self.assertEqual([('a', ['2', '3', '4'])], sent)
        done()
        self.assertEqual([], self.sender.take()[0])

    def test_size_of_a_message_is_bounded(self):
        self.cast('1', 'a')
        _, (done,) = self.sender.take()
        for name in '234':
            self.cast(name, 'a', size=coalescing_sender.MAX_EVENTS // 2)
        done()
        sent, (done,) = self.sender.take()
        self.assertEqual([('a', ['2', '3'])], sent)
        done()
        self.assertEqual([('a', ['4'])], self.sender.take()[0])

    def test_failure_of_a_message_is_reported_to_all_its_casts_and_no_other(self):
        self.cast('1', 'a', 'b')
        _, (done_a, done_b) = self.sender.take()
        self.cast('2', 'a')
        done_a(exceptions.HostUnreachable(host='a'))
        done_b()
        self.assertEqual([('1', 'a', 'no agent listens for host a')], self.failures)
        # The next message is sent in spite of the failure.
        self.assertEqual([('a', ['2'])], self.sender.take()[0])

    def test_cast_is_withdrawn_while_it_waits(self):
        self.cast('1', 'a')
        _, (done,) = self.sender.take()
        second = self.cast('2', 'a')
        self.cast('3', 'a')
        second.__exit__(None, None, None)
        done()
        self.assertEqual([('a', ['3'])], self.sender.take()[0])

    def test_cast_is_not_sent_after_its_deadline(self):
        self.cast('1', 'a')
        _, (done,) = self.sender.take()
        self.cast('2', 'a', seconds=-1.0)
        done()
        self.assertEqual([], self.sender.take()[0])
        self.cast('3', 'a')
        self.assertEqual([('a', ['3'])], self.sender.take()[0])


class SoonTest(CoalescingSenderTest):
    """What is cast before the thread of the transport comes to it goes together."""

    def setUp(self):
        super().setUp()
        self.soon = []
        self.outbox = coalescing_sender.CoalescingSender(self.sender, run_soon=self.soon.append)

    def cast(self, name, *hosts, size=1, seconds=60.0):
        block = super().cast(name, *hosts, size=size, seconds=seconds)
        self.run_soon()
        return block

    def cast_only(self, name, *hosts, **more):
        return CoalescingSenderTest.cast(self, name, *hosts, **more)

    def run_soon(self):
        while self.soon:
            self.soon.pop()()

    def test_one_message_for_each_host(self):
        self.cast_only('1', 'a', 'b')
        self.cast_only('2', 'b', 'c')
        self.assertEqual(1, len(self.soon))
        self.assertEqual([], self.sender.casts)
        self.run_soon()
        self.assertEqual([('a', ['1']), ('b', ['1', '2']), ('c', ['2'])], self.sender.take()[0])

    def test_withdrawn_before_it_was_sent(self):
        first = self.cast_only('1', 'a', 'b')
        self.cast_only('2', 'b')
        first.__exit__(None, None, None)
        self.run_soon()
        self.assertEqual([('b', ['2'])], self.sender.take()[0])

    def test_late_before_it_was_sent(self):
        self.cast_only('1', 'a', seconds=-1.0)
        self.run_soon()
        self.assertEqual([], self.sender.casts)
        self.assertEqual([('1', 'a')], [failure[:2] for failure in self.failures])
