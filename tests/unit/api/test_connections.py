"""Connections that the watch closes or keeps, on sockets of this process."""

from __future__ import annotations

import socket
import time
from typing import Any

from external_events_router.api import connections
from tests import base

PATIENCE = connections.Timeouts(
    idle=5.0, idle_when_short=0.1, asking=20.0, asking_when_short=3.0, sending_when_short=0.5, stuck=10.0
)

#: Seconds that the kernel may take for an operation that it does immediately.
AT_ONCE = 0.05


class WatchTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(self.listener.close)
        self.began = time.monotonic()

    def watch(self, *, places: int = 100, short: bool = False) -> connections.ConnectionReaper:
        port = self.listener.getsockname()[1]
        return connections.ConnectionReaper(port, PATIENCE, places=places, is_short=lambda: short)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """Connect; return the socket of the client and the socket of the server."""
        client = socket.create_connection(self.listener.getsockname())
        self.addCleanup(client.close)
        client.settimeout(10)
        server, _ = self.listener.accept()
        self.addCleanup(server.close)
        server.settimeout(0)
        return client, server

    def let_pass(self, seconds: float) -> None:
        """Wait: the clock of the kernel cannot be set."""
        time.sleep(max(0.0, seconds))

    def assert_closed(self, server: socket.socket) -> None:
        self.assertEqual(b'', server.recv(1))

    def assert_open(self, server: socket.socket) -> None:
        self.assertRaises(BlockingIOError, server.recv, 1)

    def test_silent_connection_is_closed_while_connections_are_short(self) -> None:
        _, server = self.connect()
        quick = self.watch(places=1)
        self.assertEqual(0, quick.look(self.began))
        self.let_pass(PATIENCE.idle_when_short + AT_ONCE)
        # There are enough free connections, so it may stay.
        self.assertEqual(0, self.watch().look(self.began))
        self.assert_open(server)
        self.assertEqual(1, quick.look(self.began + 1))
        self.assert_closed(server)

    def test_silent_connection_is_closed_while_memory_is_short(self) -> None:
        _, server = self.connect()
        self.let_pass(PATIENCE.idle_when_short + AT_ONCE)
        self.assertEqual(1, self.watch(short=True).look(self.began))
        self.assert_closed(server)

    def test_slow_request_is_closed(self) -> None:
        client, server = self.connect()
        watch = self.watch()
        for second in range(0, 20, 5):
            self.let_pass(0.02)
            client.sendall(b'x')
            server.recv(10)
            self.assertEqual(0, watch.look(self.began + second))
        self.assertEqual(1, watch.look(self.began + 26))
        self.assert_closed(server)

    def test_slow_request_is_closed_earlier_while_connections_are_short(self) -> None:
        client, server = self.connect()
        watch = self.watch(places=1)
        client.sendall(b'x')
        server.recv(10)
        self.assertEqual(0, watch.look(self.began))
        client.sendall(b'x')
        server.recv(10)
        self.assertEqual(1, watch.look(self.began + 1))

    def test_complete_request_is_not_closed_while_connections_are_short(self) -> None:
        client, server = self.connect()
        watch = self.watch(places=1)
        self.let_pass(0.02)
        client.sendall(b'x')
        server.recv(10)
        self.assertEqual(0, watch.look(self.began))
        self.assertEqual(0, watch.look(self.began + 2))
        self.assertEqual(1, watch.look(self.began + 4))

    def test_request_that_arrived_with_the_connection_is_not_silence(self) -> None:
        for answered in (False, True):
            client, server = self.connect()
            client.sendall(b'x')
            if answered:
                server.recv(10)
                server.sendall(b'y')
                client.recv(10)
                client.sendall(b'x')
            watch = self.watch(places=1)
            self.let_pass(PATIENCE.idle_when_short + AT_ONCE)
            self.assertEqual(0, watch.look(self.began + PATIENCE.idle_when_short + AT_ONCE))
            client.close()
            server.close()

    def test_answer_restarts_the_idle_time(self) -> None:
        client, server = self.connect()
        watch = self.watch()
        for second in range(0, 100, 10):
            self.let_pass(0.02)
            client.sendall(b'x')
            server.recv(10)
            self.assertEqual(0, watch.look(self.began + second))
            self.let_pass(0.02)
            server.sendall(b'y')
            client.recv(10)
        self.assert_open(server)

    def test_answer_that_is_not_read_is_dropped(self) -> None:
        client, server = self.connect()
        client.sendall(b'x')
        self.let_pass(0.02)
        server.recv(10)
        try:
            while True:
                server.send(b'y' * 65536)
        except BlockingIOError:
            pass
        watch = self.watch()
        self.assertEqual(0, watch.look(self.began))
        self.assertEqual(0, watch.look(self.began + 9))
        self.assertEqual(1, watch.look(self.began + 11))
        self.assertRaises((BrokenPipeError, ConnectionResetError), server.send, b'y')
        server.close()
        client.settimeout(5)
        with self.assertRaises(ConnectionResetError):
            while client.recv(10**6):
                pass

    def test_answer_that_is_read_slowly_is_not_dropped(self) -> None:
        client, server = self.connect()
        watch = self.watch()
        for second in range(0, 60, 3):
            try:
                while True:
                    server.send(b'y' * 65536)
            except BlockingIOError:
                pass
            self.assertEqual(0, watch.look(self.began + second))
            taken = 0
            while taken < 10**6:
                taken += len(client.recv(10**6))
            self.let_pass(0.02)

    def test_sockets_of_other_services_are_ignored(self) -> None:
        other = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(other.close)
        client = socket.create_connection(other.getsockname())
        self.addCleanup(client.close)
        server, _ = other.accept()
        self.addCleanup(server.close)
        server.settimeout(0)
        self.let_pass(PATIENCE.idle_when_short + AT_ONCE)
        self.assertEqual(0, self.watch(short=True).look(self.began))
        self.assert_open(server)

    def test_closed_connections_are_logged_together(self) -> None:
        for _ in range(3):
            self.connect()
        self.let_pass(PATIENCE.idle_when_short + AT_ONCE)
        self.assertEqual(3, self.watch(places=3).look(self.began))
        self.assertEqual(1, self.logs.output.count('Closed 3 connections'))


class LastAnswersTest(base.TestCase):
    def test_answers_close_their_connection_when_the_process_is_about_to_end(self) -> None:
        def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response('200 OK', [('Content-Type', 'text/plain')])
            return [b'a body']

        answers, seen = connections.LastAnswers(app), []
        for _ in range(2):
            body = answers({}, lambda status, headers, *_error: seen.append((status, headers)))
            self.assertEqual([b'a body'], body)
            answers.begin()
        kept = ('200 OK', [('Content-Type', 'text/plain')])
        self.assertEqual([kept, (kept[0], [*kept[1], ('Connection', 'close')])], seen)
