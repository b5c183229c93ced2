"""Agents in memory, and the objects with which a resolver worker delivers to them."""

from __future__ import annotations

import contextlib

from external_events_router import exceptions
from external_events_router.resolver.drivers.agent import coalescing_sender
from external_events_router.resolver.drivers.agent import deliverer


class Observer:
    """Records the observations of deliveries about hosts; see ``drivers.base.HostObserver``."""

    def __init__(self, *, breakers=None, slow_hosts=None):
        """:param breakers: circuit breakers that the observations open and close
        :param slow_hosts: is notified of the observations, too
        """
        self.host_answers, self.silence, self.late_hosts, self.late_results = [], {}, [], []
        self.began = {}
        self._breakers = breakers
        self._slow_hosts = slow_hosts

    def answered(self, host):
        self.host_answers.append(host)
        if self._breakers is not None:
            self._breakers.close(host)

    def silent(self, reasons):
        self.silence.update(reasons)
        if self._breakers is not None:
            self._breakers.open(reasons)

    def late(self, host, results=()):
        self.late_hosts.append(host)
        self.late_results += results

    def responded(self, host, began):
        self.began[host] = began
        if self._slow_hosts is not None:
            self._slow_hosts.answered(host, began)

    def wait(self, hosts):
        return contextlib.nullcontext() if self._slow_hosts is None else self._slow_hosts.wait(hosts)


class Client:
    """Casts each delivery to ``hosts.deliver``, in order, on the thread of the caller."""

    def __init__(self, hosts):
        self._hosts = hosts

    def cast(self, casts, done, *, until):
        for index, cast in enumerate(casts):
            error = None
            try:
                for ctxt, delivery in cast.deliveries:
                    self._hosts.deliver(ctxt, cast.host, delivery)
            except exceptions.RouterError as exc:
                error = exc
            done(index, error)


def make_deliverer(hosts, collector, observer=None):
    """Make a deliverer to hosts in memory, without threads to start."""
    casts = coalescing_sender.CoalescingSender(Client(hosts))
    return deliverer.AgentDeliverer(
        casts, collector, observer or Observer(), reply_to='worker', transport=None, listener=None
    )


@contextlib.contextmanager
def expect(collector, deliveries):
    """Register deliveries within the block, and remove them after it.

    :param deliveries: host to its delivery
    """
    waiting = collector.begin(deliveries)
    try:
        yield waiting
    finally:
        collector.end(deliveries, waiting)
