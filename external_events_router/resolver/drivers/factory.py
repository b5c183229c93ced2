"""Choice of the driver for the software on the compute hosts, by ``[compute] driver``."""

from __future__ import annotations

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers.agent import driver as agent_driver
from external_events_router.resolver.drivers.nova import driver as nova_driver


def from_conf(conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> base.Driver:
    """Return the driver that the configuration asks for.

    :raises ConfigurationError: a value cannot be used
    """
    check(conf)
    if conf.compute.driver == 'nova':
        return nova_driver.NovaDriver.from_conf(conf)
    return agent_driver.AgentDriver.from_conf(conf, transport)


def check(conf: cfg.ConfigOpts) -> None:
    """Check that the host map goes with the driver.

    :raises ConfigurationError: they do not go together
    """
    # NOTE: nova-compute gets the instance as its databases have it, which only
    # Nova's own map reads; and its hosts have the names of two cells' hosts.
    if (conf.compute.driver == 'nova') != (conf.host_map.backend == 'nova'):
        raise exceptions.ConfigurationError(
            option='[compute] driver',
            reason=f'{conf.compute.driver} does not go with [host_map] backend = {conf.host_map.backend}',
        )
