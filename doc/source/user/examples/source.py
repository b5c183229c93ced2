"""An agent that reports the servers of its host to the resolver; run it with --config-file."""

import logging
import sys
import threading

from oslo_config import cfg

from external_events_router import agent
from external_events_router.messaging import rpc


class RunningServers:
    """A source: the servers of one host, as its hypervisor driver starts and stops them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._servers = frozenset()
        self._watchers = []

    @classmethod
    def from_conf(cls, conf, hosts):
        """Create the source for the daemon, if ``[agent] source`` names it."""
        return cls()

    def servers(self, host):
        """Called for every event, so it answers from memory. None means that the servers are unknown."""
        return self._servers

    def watch(self, changed):
        with self._lock:
            self._watchers.append(changed)

    def close(self):
        with self._lock:
            self._watchers.clear()

    def started(self, server_uuid):
        self._change(self._servers | {server_uuid})

    def stopped(self, server_uuid):
        self._change(self._servers - {server_uuid})

    def _change(self, servers):
        with self._lock:
            self._servers = servers
            watchers = list(self._watchers)
        for changed in watchers:
            changed()


def main():
    conf = cfg.CONF
    conf(sys.argv[1:], project='external-events-router')
    logging.basicConfig(level=logging.INFO)
    transport = rpc.get_transport(conf)
    running = RunningServers()
    compute = agent.Agent(transport, 'host-a', source=running)
    try:
        compute.start()
        running.started('2c1f0e8c-6d0b-4f0e-9a0a-3c5a3f2f6f41')
        compute.wait()
    except KeyboardInterrupt:
        compute.stop(timeout=30)
    transport.cleanup()


if __name__ == '__main__':
    main()
