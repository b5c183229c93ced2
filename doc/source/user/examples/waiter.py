"""A boot that waits for its ports; run it with --config-file."""

import logging
import sys

from oslo_config import cfg

from external_events_router import agent
from external_events_router.messaging import rpc

LOG = logging.getLogger(__name__)


class PortsNotPlugged(Exception):
    """The network did not do its part."""


def plug_ports(compute, server_uuid, ports, plug, *, timeout=300):
    keys = [('network-vif-plugged', port) for port in ports]
    # Prepare: from here on no event is missed.
    with compute.expect(server_uuid, keys, timeout=timeout) as expected:
        # Act: this makes Neutron send the events.
        for port in ports:
            plug(port)
        # Wait until all events have arrived or an event has failed.
        try:
            events = expected.wait(until_failed=True)
        except agent.WaitTimeout as exc:
            raise PortsNotPlugged(str(exc)) from exc
    if expected.failed:
        raise PortsNotPlugged(f'Neutron failed to plug {[event.tag for event in expected.failed]}')
    return events


def main():
    conf = cfg.CONF
    conf(sys.argv[1:], project='external-events-router')
    logging.basicConfig(level=logging.INFO)
    transport = rpc.get_transport(conf)
    compute = agent.Agent(transport, 'host-a')
    compute.start()
    try:
        server_uuid = '2c1f0e8c-6d0b-4f0e-9a0a-3c5a3f2f6f41'
        plug_ports(compute, server_uuid, ['port-1', 'port-2'], lambda port: LOG.info('Plug %s', port))
    except PortsNotPlugged as exc:
        LOG.error('The server cannot boot: %s', exc)
    except (KeyboardInterrupt, agent.AgentStopped):
        LOG.info('Interrupted')
    finally:
        compute.stop(timeout=30)
    transport.cleanup()


if __name__ == '__main__':
    main()
