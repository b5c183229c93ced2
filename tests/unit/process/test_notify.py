"""Notifications for systemd, received by a socket that stands for it."""

from __future__ import annotations

from collections.abc import Callable
import multiprocessing
import os
import pathlib
import socket
import threading
import time

import fixtures

from external_events_router.process import notify
from external_events_router.process import parts
from tests import base

#: Seconds; much longer than an expected event takes.
LONG = 30.0


class NotifyCase(base.TestCase):
    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + LONG
        while not condition():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.02)


class NotifierTest(NotifyCase):
    def setUp(self) -> None:
        super().setUp()
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.address = str(pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'notify')
        self.systemd.bind(self.address)
        self.systemd.settimeout(20)
        self.responds = threading.Event()

    def start(self, **environ: str) -> notify.Notifier:
        environ['NOTIFY_SOCKET'] = self.address
        notifier = notify.Notifier.from_environment(lambda _age: self.responds.is_set(), environ)
        assert notifier is not None
        self.assertEqual({}, environ)
        notifier.start()
        self.addCleanup(notifier.stop)
        return notifier

    def receive(self) -> str:
        return self.systemd.recv(100).decode()

    def assertSilent(self, seconds: float) -> None:
        self.systemd.settimeout(seconds)
        self.assertRaises(TimeoutError, self.receive)
        self.systemd.settimeout(20)

    def test_fed_only_while_the_service_responds(self) -> None:
        notifier = self.start(WATCHDOG_USEC='400000', WATCHDOG_PID=str(os.getpid()))
        self.assertSilent(0.5)
        self.responds.set()
        self.assertEqual(['READY=1', *['WATCHDOG=1'] * 3], [self.receive() for _ in range(4)])
        self.responds.clear()
        self.wait_until(lambda: 'A worker does not respond' in self.logs.output)
        self.systemd.settimeout(0.5)
        with self.assertRaisesRegex(TimeoutError, ''):
            # States from before.
            for _ in range(1000):
                self.receive()
        self.systemd.settimeout(20)
        self.responds.set()
        self.assertEqual('WATCHDOG=1', self.receive())
        notifier.stop()
        while (state := self.receive()) == 'WATCHDOG=1':
            pass
        self.assertEqual('STOPPING=1', state)

    def test_ready_is_repeated_until_systemd_receives_it(self) -> None:
        missing = f'{self.address}-missing'
        os.rename(self.address, missing)
        self.responds.set()
        self.start(WATCHDOG_USEC='400000', WATCHDOG_PID=str(os.getpid()))
        self.wait_until(lambda: 'Could not notify systemd' in self.logs.output)
        self.assertSilent(0.5)
        self.assertEqual(1, self.logs.output.count('Could not notify systemd'), self.logs.output)
        os.rename(missing, self.address)
        while (state := self.receive()) == 'WATCHDOG=1':
            pass
        self.assertEqual('READY=1', state)

    def test_a_watchdog_of_another_process(self) -> None:
        self.responds.set()
        self.patch(notify, 'INTERVAL', 0.05)
        self.start(WATCHDOG_USEC='400000', WATCHDOG_PID='1')
        self.assertEqual('READY=1', self.receive())
        self.assertSilent(0.5)

    def test_ready_when_the_start_is_finished(self) -> None:
        self.responds.set()
        started = threading.Event()
        environ = {'NOTIFY_SOCKET': self.address, 'WATCHDOG_USEC': '400000'}
        notifier = notify.Notifier.from_environment(lambda _age: True, environ, is_started=started.is_set)
        assert notifier is not None
        notifier.start()
        self.addCleanup(notifier.stop)
        self.assertEqual(['WATCHDOG=1'] * 2, [self.receive() for _ in range(2)])
        started.set()
        while (state := self.receive()) == 'WATCHDOG=1':
            pass
        self.assertEqual('READY=1', state)

    def test_without_systemd(self) -> None:
        self.assertIsNone(notify.Notifier.from_environment(lambda _age: True, {'WATCHDOG_USEC': '1'}))


class HeartbeatsTest(NotifyCase):
    def test_all_workers_count(self) -> None:
        self.patch(notify, 'INTERVAL', 0.05)
        heartbeats = notify.Heartbeats.shared(2, multiprocessing.get_context())
        answered, hang = threading.Event(), threading.Event()
        self.addCleanup(hang.set)

        def second() -> bool:
            if answered.is_set():
                hang.wait(30)
            return True

        heartbeats.begin(0, lambda: True)
        self.assertFalse(heartbeats.are_recent(30))
        heartbeats.begin(1, second)
        self.wait_until(lambda: heartbeats.are_recent(1.0))
        answered.set()
        self.wait_until(lambda: not heartbeats.are_recent(0.5))
        hang.set()
        self.wait_until(lambda: heartbeats.are_recent(1.0))

    def test_a_start_has_heartbeats_but_is_not_finished(self) -> None:
        self.patch(notify, 'INTERVAL', 0.05)
        heartbeats = notify.Heartbeats.shared(1, multiprocessing.get_context())
        heartbeats.begin(0, lambda: True, is_started=False)
        self.wait_until(lambda: heartbeats.are_recent(1.0))
        self.assertFalse(heartbeats.are_started())
        heartbeats.finish_start(0)
        self.assertTrue(heartbeats.are_started())
        heartbeats.begin(0, lambda: True, is_started=False)
        self.assertFalse(heartbeats.are_started())
        heartbeats.begin(0, lambda: True)
        self.assertTrue(heartbeats.are_started())

    def test_a_part_with_a_failed_thread_does_not_respond(self) -> None:
        self.patch(parts, 'ALL', parts.Registry())
        self.assertTrue(notify.is_responding(lambda: None))
        self.assertFalse(notify.is_responding(lambda: 'thread x ended'))


class RespondingTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = parts.Registry()
        self.patch(parts, 'ALL', self.registry)
        self.part = threading.Event()

    def test_nothing_is_wrong(self) -> None:
        self.registry.add(parts.Kind.POOL, self.part, lambda _part: parts.Status('pool'))
        self.assertTrue(notify.is_responding(lambda: None))
        self.assertFalse(notify.is_responding(lambda: 'thread x ended'))

    def test_the_thread_of_the_connections_hangs(self) -> None:
        status = parts.Status('casts', parts.State.FAILED, {'hangs': True})
        self.registry.add(parts.Kind.CONNECTION, self.part, lambda _part: status)
        self.assertFalse(notify.is_responding(lambda: None))

    def test_the_lock_of_any_part_is_held(self) -> None:
        for kind in parts.Kind:
            lock = threading.Lock()

            def read(_part: object, lock: threading.Lock = lock) -> parts.Status:
                with lock:
                    return parts.Status('part')

            self.registry.add(kind, self.part, read)
            with lock:
                probe = threading.Thread(target=notify.is_responding, args=(lambda: None,), daemon=True)
                probe.start()
                probe.join(0.2)
                self.assertTrue(probe.is_alive(), kind)
            probe.join(20)
            self.assertFalse(probe.is_alive(), kind)
