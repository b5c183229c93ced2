"""RPC servers end within a time limit, also if oslo.messaging waits for the broker."""

import threading

from external_events_router.messaging import stopping
from tests import base


class Server:
    def __init__(self, *, is_blocked=False):
        self.may_end = threading.Event()
        self.has_ended = threading.Event()
        self.calls = []
        if not is_blocked:
            self.may_end.set()

    def stop(self):
        self.calls.append('stop')

    def wait(self):
        self.may_end.wait()
        self.calls.append('wait')
        self.has_ended.set()


class ServerStopTest(base.TestCase):
    def test_servers_have_ended(self):
        servers = [Server(), Server()]
        stop = stopping.ServerStop(servers)
        stop.start()
        self.assertTrue(stop.wait(30.0))
        self.assertEqual([['stop', 'wait']] * 2, [server.calls for server in servers])

    def test_blocked_server_delays_neither_the_others_nor_the_caller(self):
        servers = [Server(is_blocked=True), Server()]
        self.addCleanup(servers[0].may_end.set)
        stop = stopping.ServerStop(servers)
        stop.start()
        self.assertTrue(servers[1].has_ended.wait(30.0))
        self.assertFalse(stop.wait(0.01))
        self.assertNotIn('wait', servers[0].calls)
