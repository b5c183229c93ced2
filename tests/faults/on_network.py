"""Faults of the network: packets are dropped, so that no connection is refused or reset."""

from __future__ import annotations

from tests.faults import catalogue


@catalogue.fault('network-silent-resolver', affects='resolver-network', in_short=True)
def resolver(site, timing):
    """Silence between the resolver and RabbitMQ for 20 s."""
    with site.router.networks['resolver'].silent():
        timing.last(20, short=5)


@catalogue.fault('network-silent-agent', affects='agents-c')
def agent(site, timing):
    """Silence between an agent process and RabbitMQ for 20 s."""
    with site.router.networks['agents-c'].silent():
        timing.last(20, short=5)


@catalogue.fault('network-silent-long', affects='resolver-network agents-c')
def both(site, timing):
    """Silence between both of them and RabbitMQ for 90 s, longer than heartbeats take."""
    with site.router.networks['resolver'].silent(), site.router.networks['agents-c'].silent():
        timing.last(90, short=5)
