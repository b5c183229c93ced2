"""A compute agent that handles two kinds of events; run it with --config-file."""

import logging
import sys

from oslo_config import cfg

from external_events_router import agent
from external_events_router.messaging import rpc

LOG = logging.getLogger(__name__)

#: The attached volumes of each server, which a compute agent knows.
VOLUMES = {'2c1f0e8c-6d0b-4f0e-9a0a-3c5a3f2f6f41': {'e0c7e5f0-1d3f-4f0e-8a53-6c6b5b0a7f10'}}


def make_agent(transport, host):
    compute = agent.Agent(transport, host)

    @compute.on('volume-extended')
    def extend_volume(ctxt, event):
        volumes = VOLUMES.get(event.server_uuid)
        if volumes is None:
            raise agent.NotHere(server_uuid=event.server_uuid)
        if event.tag not in volumes:
            raise agent.Refused(reason=f'volume {event.tag} is not attached')
        LOG.info('Telling the guest %s the new size of %s', event.server_uuid, event.tag)

    def set_power(ctxt, event):
        LOG.info('Server %s is now %s', event.server_uuid, event.tag)
        return agent.Verdict.HANDLED  # the same as returning nothing

    compute.on('power-update', set_power)
    return compute


def main():
    conf = cfg.CONF
    conf(sys.argv[1:], project='external-events-router')
    logging.basicConfig(level=logging.INFO)
    transport = rpc.get_transport(conf)
    compute = make_agent(transport, 'host-a')
    try:
        compute.start()
        compute.wait()
    except KeyboardInterrupt:
        compute.stop(timeout=30)
    transport.cleanup()


if __name__ == '__main__':
    main()
