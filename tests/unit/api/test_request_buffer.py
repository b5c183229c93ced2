"""Limits for reading bodies, for the memory that they use, and for requests in progress."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import fixtures

from external_events_router.api import faults
from external_events_router.api import request_buffer
from tests import base
from tests.unit.api.test_middleware import Answer
from tests.unit.api.test_middleware import ok


def make(
    app: Any = ok, *, max_bytes: int = 100, memory: int = 10**6, threads: int = 2
) -> request_buffer.RequestBuffer:
    return request_buffer.RequestBuffer(
        app,
        max_bytes=max_bytes,
        max_header_bytes=1000,
        memory=request_buffer.Memory(memory, wait_limit=0.05),
        places=threading.Semaphore(threads),
    )


def status_of(answer: Answer) -> int:
    # NOTE: not the reason phrase, which differs between releases of Python.
    return int(answer.status.split()[0])


class BodyTest(base.TestCase):
    def body(self, sent: bytes, **environ: object) -> bytes:
        bodies = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            self.assertEqual(environ[request_buffer.BODY], environ['wsgi.input'].read())
            try:
                bodies.append(request_buffer.body_of(environ, 10))
            except faults.Fault as fault:
                bodies.append(fault)
            return ok(environ, start_response)

        # NOTE: the limit for a request of this application is lower than that of the buffer.
        Answer(make(app, max_bytes=100), **{'wsgi.input': io.BytesIO(sent), **environ})
        (body,) = bodies
        return body

    def test_request_without_a_length_has_no_body(self) -> None:
        # NOTE: a server that does not end the input would block the read.
        self.assertEqual(b'', self.body(b'more', CONTENT_LENGTH=''))

    def test_body_with_a_length_or_until_the_end(self) -> None:
        self.assertEqual(b'0123456789', self.body(b'0123456789more', CONTENT_LENGTH='10'))
        self.assertEqual(b'0123456789', self.body(b'0123456789', **{'wsgi.input_terminated': True}))

    def test_body_that_is_too_long_or_too_short(self) -> None:
        for sent, environ, status in (
            (b'0123456789a', {'CONTENT_LENGTH': '11'}, 413),
            (b'0123456789a', {'wsgi.input_terminated': True}, 413),
            (b'0123', {'CONTENT_LENGTH': '5'}, 400),
        ):
            self.assertEqual(status, self.body(sent, **environ).status)


class LimitTest(base.TestCase):
    def test_lengths(self) -> None:
        for length, status in (
            ('', 200),
            ('0', 200),
            ('100', 200),
            ('00000100', 200),
            ('101', 413),
            ('1000', 413),
            ('9' * 5000, 413),
            ('-1', 400),
            ('1e3', 400),
            ('\u00b2', 400),
        ):
            answer = Answer(make(), **{'CONTENT_LENGTH': length, 'wsgi.input': io.BytesIO()})
            self.assertEqual((length, status), (length, status_of(answer)))

    def test_unread_body_is_read_unless_it_is_very_large(self) -> None:
        most = request_buffer.DRAINED
        for length, status, left in (
            (99, 200, 0),
            (101, 413, 0),
            (most, 413, 0),
            (most + 1, 413, 1),
            (10**30, 413, 1),
        ):
            body = io.BytesIO(b'x' * min(length, most + 1))
            answer = Answer(make(), **{'CONTENT_LENGTH': str(length), 'wsgi.input': body})
            self.assertEqual((length, status), (length, status_of(answer)))
            self.assertEqual((length, left), (length, len(body.read(1))))

    def test_body_without_a_length_is_read_to_its_end(self) -> None:
        for terminated, left in ((True, 0), (False, 1)):
            body = io.BytesIO(b'x' * 1000)
            Answer(make(), **{'wsgi.input': body, 'wsgi.input_terminated': terminated})
            self.assertEqual((terminated, left), (terminated, len(body.read(1))))

    def test_only_one_byte_more_than_the_limit_is_stored(self) -> None:
        seen = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.append(len(environ['wsgi.input'].read()))
            return ok(environ, start_response)

        for size in (100, 101, 100_000):
            Answer(make(app), **{'wsgi.input': io.BytesIO(b'x' * size), 'wsgi.input_terminated': True})
        self.assertEqual([100, 101, 101], seen)

    def test_nothing_is_read_beyond_the_length(self) -> None:
        # NOTE: a server that does not end the input would block the read.
        class Strict(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                assert size == 10, size
                return super().read(size)

        Answer(make(), **{'CONTENT_LENGTH': '10', 'wsgi.input': Strict(b'x' * 20)})

    def test_body_that_ends_too_early(self) -> None:
        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise ConnectionResetError

        answer = Answer(make(), **{'CONTENT_LENGTH': '10', 'wsgi.input': Broken()})
        self.assertEqual(400, status_of(answer))


class MemoryTest(base.TestCase):
    def answer(self, app: request_buffer.RequestBuffer, size: int) -> int:
        return status_of(Answer(app, **{'CONTENT_LENGTH': str(size), 'wsgi.input': io.BytesIO(b'x' * size)}))

    def test_body_without_free_memory_is_refused_and_small_bodies_are_not(self) -> None:
        app = make(max_bytes=10**6, memory=50_000)
        self.assertEqual(200, self.answer(app, request_buffer.FREE + 50_000))
        self.assertEqual(503, self.answer(app, request_buffer.FREE + 50_001))
        # The refused request has released its memory.
        self.assertEqual(200, self.answer(app, request_buffer.FREE + 50_000))

    def test_waiting_request_gets_released_memory_and_memory_is_short_meanwhile(self) -> None:
        memory = request_buffer.Memory(100, wait_limit=30.0)
        self.assertTrue(memory.take(100))
        got: list[bool] = []
        waiter = threading.Thread(target=lambda: got.append(memory.take(60)))
        waiter.start()
        while not memory.is_short():
            pass
        memory.give_back(50)
        memory.give_back(50)
        waiter.join()
        self.assertEqual([True], got)
        self.assertFalse(memory.is_short())


class ChunkedTest(base.TestCase):
    def test_number_of_chunked_bodies_is_bounded(self) -> None:
        released, reading = threading.Event(), threading.Semaphore(0)

        class Slow(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                reading.release()
                released.wait()
                return b''

        self.useFixture(fixtures.MonkeyPatch(f'{request_buffer.__name__}.PATIENCE', 0.05))
        app = make()
        chunked = {'HTTP_TRANSFER_ENCODING': 'chunked', 'wsgi.input_terminated': True}
        slow = [
            threading.Thread(target=Answer, args=(app,), kwargs={**chunked, 'wsgi.input': Slow()})
            for _ in range(request_buffer.CHUNKED)
        ]
        for thread in slow:
            thread.start()
            reading.acquire()
        answer = Answer(app, **{**chunked, 'wsgi.input': io.BytesIO(b'x')})
        self.assertEqual(503, status_of(answer))
        with_length = {'CONTENT_LENGTH': '1', 'wsgi.input': io.BytesIO(b'x')}
        self.assertEqual(200, status_of(Answer(app, **with_length)))
        released.set()
        for thread in slow:
            thread.join()
        answer = Answer(app, **{**chunked, 'wsgi.input': io.BytesIO(b'x')})
        self.assertEqual(200, status_of(answer))

    def test_other_requests_run_between_the_parts_of_a_body(self) -> None:
        class Costly(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                time.sleep(0.005)
                return super().read(size)

        began = time.monotonic()
        chunked = {'HTTP_TRANSFER_ENCODING': 'chunked', 'wsgi.input_terminated': True}
        Answer(make(), **{**chunked, 'wsgi.input': Costly(b'x' * 10 * request_buffer.PART)})
        self.assertGreater(time.monotonic() - began, 10 * 0.005 * (1 + 0.9 * request_buffer.PAUSE))


class PlacesTest(base.TestCase):
    def test_slow_bodies_do_not_count_as_requests_in_progress(self) -> None:
        released, reading = threading.Event(), threading.Semaphore(0)

        class Slow(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                reading.release()
                released.wait()
                return b''

        app = make(threads=1)
        slow = [
            threading.Thread(target=Answer, args=(app,), kwargs={'CONTENT_LENGTH': '9', 'wsgi.input': Slow()})
            for _ in range(5)
        ]
        for thread in slow:
            thread.start()
            reading.acquire()
        answer = Answer(app, **{'CONTENT_LENGTH': '1', 'wsgi.input': io.BytesIO(b'x')})
        self.assertEqual(200, status_of(answer))
        released.set()
        for thread in slow:
            thread.join()

    def test_number_of_requests_in_progress_is_bounded(self) -> None:
        now, most = [0], [0]
        lock, full = threading.Lock(), threading.Event()

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
                if now[0] == 3:
                    full.set()
            full.wait(30)
            # Another request could begin now, if the number had no limit.
            threading.Event().wait(0.02)
            with lock:
                now[0] -= 1
            return ok(environ, start_response)

        taken = make(app, threads=3)
        threads = [
            threading.Thread(target=Answer, args=(taken,), kwargs={'wsgi.input': io.BytesIO()})
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(3, most[0])
