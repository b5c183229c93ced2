"""Faults of the broker."""

from __future__ import annotations

from concurrent import futures
import os
import signal
import socket
import time
import uuid

import amqp

from tests.faults import broker
from tests.faults import catalogue
from tests.faults import site as sites
from tests.integration import deployment

#: The exchange of the service, and how the names of its acknowledgement queues begin.
EXCHANGE, ACKS = 'external_events', 'external-events-acks'

#: Seconds within which the service restores exchange and bindings.
RESTORED = 30.0

#: Seconds within which an agent process listens.
READY = 20.0

#: Agents that are started at the same time.
STARTS = 3


@catalogue.fault('broker-killed', affects='broker', in_short=True)
def killed(site, timing):
    """RabbitMQ killed, started again after 6 s."""
    site.rabbit.kill()
    timing.last(6, short=2)
    site.rabbit.start()


@catalogue.fault('broker-stopped', affects='broker')
def stopped(site, timing):
    """RabbitMQ stopped in order, for 30 s."""
    site.rabbit.stop()
    timing.last(30, short=5)
    site.rabbit.start()


@catalogue.fault('broker-frozen', affects='broker')
def frozen(site, timing):
    """RabbitMQ frozen (SIGSTOP) for 20 s."""
    os.kill(site.rabbit.process.pid, signal.SIGSTOP)
    try:
        timing.last(20, short=5)
    finally:
        os.kill(site.rabbit.process.pid, signal.SIGCONT)


@catalogue.fault('broker-alarm', affects='broker', in_short=True)
def alarm(site, timing):
    """RabbitMQ in memory alarm for 20 s."""
    site.rabbit.control('set_vm_memory_high_watermark', 'absolute', '1')
    try:
        timing.last(20, short=5)
    finally:
        site.rabbit.control('set_vm_memory_high_watermark', broker.WATERMARK)


@catalogue.fault('broker-connections-closed', affects='broker', in_short=True)
def connections_closed(site, timing):
    """Every connection closed by RabbitMQ, 3 times."""
    for _ in timing.times(3, short=1):
        site.rabbit.control('close_all_connections', 'a fault of the tests')
        timing.last(5, short=0)


@catalogue.fault('broker-exchange-deleted', affects='broker', recovers=RESTORED)
def exchange_deleted(site, timing):
    """The exchange of the service deleted, and with it all bindings."""
    with site.rabbit.channel() as channel:
        channel.exchange_delete(EXCHANGE)


@catalogue.fault('broker-bindings-removed', affects='broker', recovers=RESTORED)
def bindings_removed(site, timing):
    """The bindings of the queues of an agent process, and of all acknowledgement queues, removed."""
    hosts = site.size.agents()['agents-b']
    keys = site.rabbit.control('list_bindings', 'source_name', 'routing_key', 'destination_name')
    with site.rabbit.channel() as channel:
        for source, key, queue in (line.split('\t') for line in keys.splitlines()):
            if source == EXCHANGE and (queue.startswith(ACKS) or queue.partition('.')[2] in hosts):
                channel.queue_unbind(queue, EXCHANGE, key)


@catalogue.fault('broker-node-silent', affects='broker')
def node_silent(site, timing):
    """Agents started 10 times with two brokers in their URL, one of which stays silent."""
    # NOTE: the kernel completes connections to a listening socket, and no process reads from them.
    with socket.create_server(('127.0.0.1', deployment.free_port()), backlog=1000) as silent:
        silent_url = site.rabbit.url(silent.getsockname()[1])
        both = f'{site.rabbit.url()[:-1]},{silent_url.partition("//")[2]}'
        config = site.router.write_config('two-brokers.conf', transport_url=both)
        hosts = [f'host-two-{uuid.uuid4().hex[:6]}' for _ in timing.times(10, short=6)]
        with futures.ThreadPoolExecutor(STARTS) as pool:
            took = list(pool.map(lambda host: _started(site, host, config), hosts))
    never = took.count(None)
    site.notes.append(f'started after {", ".join(f"{each:.1f}" for each in took if each)} s, {never} never')
    if never:
        site.problems.append(f'{never} of {len(took)} agents did not listen within {READY} s')


def _started(site, host, config):
    """Start an agent like an operator, and end it.

    :returns: seconds until it listens; None: it did not listen
    """
    command = [deployment.BIN / 'external-events-agent', '--config-file', config, '--host', host]
    began = time.monotonic()
    with deployment.Process(f'agent-{host}', command, site.router.folder) as process:
        ended = sites.waited(
            lambda: _listens(site, host) or process.process.poll() is not None, until=began + READY
        )
        return ended if process.process.poll() is None else None


def _listens(site, host):
    """Whether the queue of a host has a consumer."""
    try:
        with site.rabbit.channel() as channel:
            return channel.queue_declare(f'compute.{host}', passive=True).consumer_count > 0
    except amqp.NotFound:
        return False
