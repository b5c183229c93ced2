"""The readiness of a process: only its own faults result in 503."""

from __future__ import annotations

import http.client
import json
import pathlib
import socket
import threading
import time
from typing import Any

import fixtures

from external_events_router.process import bounded_http
from external_events_router.process import health_server
from external_events_router.process import parts
from external_events_router.process import readiness
from tests import base


class ReadinessTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.registry = parts.Registry()
        self.patch(parts, 'ALL', self.registry)
        self.parts: list[Any] = []

    def add(self, kind: parts.Kind, status: parts.Status) -> None:
        self.parts.append(threading.Event())
        self.registry.add(kind, self.parts[-1], lambda _part: status)

    def test_a_process_without_faults(self) -> None:
        self.add(parts.Kind.HOLD, parts.Status('hold', details={'requests_waiting': 0}))
        status, body = readiness.Readiness().read()
        self.assertEqual((200, 'ok'), (status, body['status']))
        self.assertEqual({'status': 'ok', 'requests_waiting': 0}, body['parts']['hold'])

    def test_a_shared_fault_is_degraded(self) -> None:
        self.add(parts.Kind.CONNECTION, parts.Status('casts', parts.State.DEGRADED))
        self.add(parts.Kind.CONNECTION, parts.Status('listeners'))
        status, body = readiness.Readiness().read()
        self.assertEqual((200, 'degraded'), (status, body['status']))
        self.assertEqual('degraded', body['parts']['broker_casts']['status'])
        self.assertEqual('ok', body['parts']['broker_acknowledgements']['status'])

    def test_a_local_fault_is_503(self) -> None:
        self.add(parts.Kind.QUEUES, parts.Status('queues', parts.State.FAILED))
        self.add(parts.Kind.QUEUES, parts.Status('queues'))
        self.add(parts.Kind.HOLD, parts.Status('hold', parts.State.DEGRADED))
        status, body = readiness.Readiness().read()
        self.assertEqual((503, 'failed'), (status, body['status']))
        self.assertEqual('failed', body['parts']['queues']['status'])

    def test_a_failed_thread_is_503(self) -> None:
        status, body = readiness.Readiness(lambda: 'thread x ended').read()
        self.assertEqual((503, 'failed'), (status, body['status']))
        self.assertEqual('thread x ended', body['parts']['process']['reason'])

    def test_a_file_drains_the_process(self) -> None:
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'drain'
        answers = readiness.Readiness(drain_file=str(file))
        self.assertEqual(200, answers.read()[0])
        file.touch()
        status, body = answers.read()
        self.assertEqual((503, 'draining'), (status, body['status']))

    def test_no_addresses_and_names(self) -> None:
        details = {'last_loss': 'broker.example.org refused', 'lost': 3, 'hosts': ['a']}
        self.add(parts.Kind.CONNECTION, parts.Status('casts', details=details))
        body = readiness.Readiness().read()[1]
        self.assertEqual({'status': 'ok', 'lost': 3}, body['parts']['broker_casts'])


class HealthServerTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reason: str | None = None
        answers = readiness.Readiness(lambda: self.reason)
        self.server = health_server.HealthServer(health_server.make_server(('127.0.0.1', 0), answers))
        self.server.start()
        self.addCleanup(self.server.stop)

    def get(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection('127.0.0.1', self.server.port, timeout=20)
        self.addCleanup(connection.close)
        connection.request('GET', path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def test_paths(self) -> None:
        self.assertEqual(200, self.get('/readiness')[0])
        self.assertEqual((200, {'process': {'status': 'ok'}}), self.get('/healthcheck'))
        self.assertEqual(404, self.get('/metrics')[0])
        self.reason = 'thread x ended'
        self.assertEqual(503, self.get('/readiness')[0])
        self.assertEqual(503, self.get('/healthcheck')[0])

    def test_a_slow_client_delays_no_other_and_is_ended(self) -> None:
        self.patch(bounded_http, 'CHECK_INTERVAL', 0.05)
        slow = socket.create_connection(('127.0.0.1', self.server.port), timeout=20)
        self.addCleanup(slow.close)
        slow.sendall(b'GET /readi')
        began = time.monotonic()
        self.assertEqual(200, self.get('/readiness')[0])
        self.assertLess(time.monotonic() - began, health_server.TIMEOUT)
        # NOTE: each byte comes in time, but the request does not.
        with self.assertRaisesRegex(OSError, ''):
            for _ in range(100):
                slow.sendall(b'n')
                time.sleep(0.1)
