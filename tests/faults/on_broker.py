"""Faults of the broker."""

from __future__ import annotations

import os
import signal

from tests.faults import broker
from tests.faults import catalogue


@catalogue.fault('broker-killed', touches='broker', in_short=True)
def killed(site, pace):
    """RabbitMQ killed, started again after 10 s."""
    site.rabbit.kill()
    pace.last(10, short=2)
    site.rabbit.start()


@catalogue.fault('broker-stopped', touches='broker')
def stopped(site, pace):
    """RabbitMQ stopped in order, for 30 s."""
    site.rabbit.stop()
    pace.last(30, short=5)
    site.rabbit.start()


@catalogue.fault('broker-frozen', touches='broker')
def frozen(site, pace):
    """RabbitMQ frozen (SIGSTOP) for 20 s."""
    os.kill(site.rabbit.process.pid, signal.SIGSTOP)
    try:
        pace.last(20, short=5)
    finally:
        os.kill(site.rabbit.process.pid, signal.SIGCONT)


@catalogue.fault('broker-alarm', touches='broker', in_short=True)
def alarm(site, pace):
    """RabbitMQ in memory alarm for 20 s."""
    site.rabbit.control('set_vm_memory_high_watermark', 'absolute', '1')
    try:
        pace.last(20, short=5)
    finally:
        site.rabbit.control('set_vm_memory_high_watermark', broker.WATERMARK)


@catalogue.fault('broker-connections-closed', touches='broker', in_short=True)
def connections_closed(site, pace):
    """Every connection closed by RabbitMQ, 3 times."""
    for _ in pace.times(3, short=1):
        site.rabbit.control('close_all_connections', 'a fault of the tests')
        pace.last(5, short=0)
