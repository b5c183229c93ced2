"""Request headers that WSGI servers interpret differently."""

from __future__ import annotations

import io
import socket
import threading
from typing import Any

from external_events_router.api import chunked
from external_events_router.api import faults
from external_events_router.api import request_buffer
from external_events_router.api import request_head
from tests import base
from tests.unit.api.test_middleware import Answer
from tests.unit.api.test_middleware import ok


def problem(max_header_bytes: int = 1000, **environ: str) -> int | None:
    """The status of the error, or None."""
    try:
        request_head.check({'wsgi.version': (1, 0), **environ}, max_header_bytes)
    except faults.Fault as fault:
        return fault.status
    return None


class CheckTest(base.TestCase):
    def test_transfer_encoding(self) -> None:
        for coding, length, status in (
            ('chunked', '', None),
            (' Chunked ', '', None),
            ('chunked', '5', 400),
            ('chunked', '0', 400),
            ('chunked, chunked', '', 400),
            ('gzip, chunked', '', 501),
            ('chunked, identity', '', 501),
            ('identity', '', 501),
            ('', '', 501),
            ('xchunked', '', 501),
            ('\x0bchunked', '', 501 if '\x0bchunked'.strip() != 'chunked' else None),
        ):
            found = problem(HTTP_TRANSFER_ENCODING=coding, CONTENT_LENGTH=length)
            self.assertEqual((coding, length, status), (coding, length, found))

    def test_hosts(self) -> None:
        self.assertIsNone(problem(HTTP_HOST='front.test:8790'))
        self.assertEqual(400, problem(HTTP_HOST='front.test,other'))

    def test_size_of_all_headers(self) -> None:
        # As transmitted: "X-A: aaa\r\n".
        self.assertIsNone(problem(100, HTTP_X_A='a' * 93))
        self.assertEqual(431, problem(100, HTTP_X_A='a' * 94))
        many = {f'HTTP_X_{number:02}': 'a' * 10 for number in range(10)}
        self.assertIsNone(problem(180, **many))
        self.assertEqual(431, problem(179, **many))
        self.assertIsNone(problem(100, CONTENT_TYPE='a' * 1000))

    def test_content_lengths(self) -> None:
        for text, length in (('', None), ('0', 0), ('0007', 7), ('9' * 5000, 10**18)):
            self.assertEqual(length, request_head.content_length({'CONTENT_LENGTH': text}))
        for text in ('-1', '+1', '1_0', '0x1', ' 1', '1,1', '\u0661'):
            self.assertRaises(faults.Fault, request_head.content_length, {'CONTENT_LENGTH': text})


class SilentServerTest(base.TestCase):
    """A chunked body on a server that gives an empty body where the chunks are broken."""

    def status(self, body: Any, *, can_watch: bool = True) -> int:
        self.patch(chunked, 'can_watch', lambda: can_watch)
        app = request_buffer.RequestBuffer(
            ok,
            max_bytes=100,
            max_header_bytes=1000,
            memory=request_buffer.Memory(10**6, wait_limit=0.05),
            places=threading.Semaphore(2),
        )
        environ = {
            'HTTP_TRANSFER_ENCODING': 'chunked',
            'SERVER_SOFTWARE': 'Granian',
            'SERVER_PORT': '1',
            'wsgi.input': body,
            'wsgi.input_terminated': True,
        }
        return int(Answer(app, **environ).status.split()[0])

    def test_complete_large_and_broken_bodies(self) -> None:
        for size, status in ((1, 200), (100, 200), (101, 413), (0, 400)):
            self.assertEqual((size, status), (size, self.status(io.BytesIO(b'x' * size))))

    def test_body_is_read_in_one_call(self) -> None:
        class Silent(io.BytesIO):
            def read(self, *size: Any) -> bytes:
                return b'whole' if not size else b''

        self.assertEqual(200, self.status(Silent()))

    def test_server_that_raises_an_exception(self) -> None:
        class Raising(io.BytesIO):
            def read(self, *size: Any) -> bytes:
                raise ValueError('Bad chunked transfer size')

        self.assertEqual(400, self.status(Raising()))

    def test_system_without_byte_counts(self) -> None:
        self.assertEqual(411, self.status(io.BytesIO(b'x'), can_watch=False))


class WatchTest(base.TestCase):
    """Sockets that receive too many bytes."""

    def test_only_the_socket_that_receives_too_much_is_closed(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
            clients = [socket.create_connection(('127.0.0.1', port)) for _ in range(2)]
            accepted = [server.accept()[0] for _ in clients]
            for connection in (*clients, *accepted):
                self.addCleanup(connection.close)
            for client in clients:
                client.sendall(b'POST')
            for connection in accepted:
                connection.settimeout(30)
                self.assertEqual(b'POST', connection.recv(4))
            watch = chunked.Watch(port, 1000)
            with watch.running():
                most = chunked.WIRE_FACTOR * 1000 + chunked.WIRE_SPARE
                clients[0].sendall(b'x' * (most + 1))
                while not watch.exceeded:
                    pass
                clients[1].sendall(b'y')
                self.assertEqual(b'y', accepted[1].recv(1))
            received = 0
            while part := accepted[0].recv(65536):
                received += len(part)
            self.assertLessEqual(received, most + 1)
