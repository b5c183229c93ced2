"""Choice of the driver for the software on the compute hosts, by ``[compute] driver``."""

from __future__ import annotations

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers.agent import driver as agent_driver
from external_events_router.resolver.drivers.nova import driver as nova_driver


def from_conf(conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> base.Driver:
    """Return the driver of the configuration.

    :raises ConfigurationError: a value is not valid
    """
    check(conf)
    if conf.compute.driver == 'nova':
        return nova_driver.NovaDriver.from_conf(conf)
    return agent_driver.AgentDriver.from_conf(conf, transport)


def check(conf: cfg.ConfigOpts) -> None:
    """Check that the host map matches the driver.

    :raises ConfigurationError: the two options do not match
    """
    # NOTE: nova-compute needs the instance from its databases, which only the host map ``nova`` reads.
    # The names of its hosts also contain the cell.
    if (conf.compute.driver == 'nova') != (conf.host_map.backend == 'nova'):
        raise exceptions.ConfigurationError(
            option='[compute] driver',
            reason=f'{conf.compute.driver} does not match [host_map] backend = {conf.host_map.backend}; use '
            'nova for both options, or for neither',
        )
