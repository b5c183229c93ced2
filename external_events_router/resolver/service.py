"""A resolver worker: its two RPC servers and what they stand on, started and stopped as one."""

from __future__ import annotations

from oslo_config import cfg
from oslo_log import log
import oslo_messaging as messaging

from external_events_router import rpc
from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.resolver import acks
from external_events_router.resolver import dispatch
from external_events_router.resolver import endpoint
from external_events_router.resolver import router
from external_events_router.resolver import rpcapi
from external_events_router.resolver import worker_name
from external_events_router.resolver.host_map import guarded

LOG = log.getLogger(__name__)

#: Threads that take acknowledgements off the wire. Taking one is a few
#: microseconds' work under a lock, so more would only wait for each other.
ACK_THREADS = 2


class Resolver:
    """One worker. Several, on any machines, share the work."""

    def __init__(
        self,
        transport: messaging.RPCTransport,
        host_map: guarded.GuardedHostMap,
        agent_api: dispatch.Sender,
        *,
        host: str,
        threads: int,
        publishers: int,
    ) -> None:
        """:param host: name of this machine
        :param threads: batches routed at the same time
        :param publishers: casts on their way at the same time
        """
        self._threads = threads
        self._host_map = host_map
        self._name = worker_name.WorkerName(host)
        self._dispatcher = dispatch.Dispatcher(agent_api, publishers=publishers)
        collector = acks.Collector()
        events_router = router.Router(host_map, self._dispatcher, collector, reply_to=self._name.name)
        self._requests = rpc.get_server(
            transport,
            messaging.Target(topic=rpcapi.TOPIC, server=self._name.name),
            [endpoint.RouteEndpoint(events_router), endpoint.HostMapEndpoint(host_map)],
        )
        # A server of its own: see ``rpcapi``.
        self._acks = rpc.get_server(
            transport,
            messaging.Target(topic=rpcapi.ACK_TOPIC, server=self._name.name),
            [endpoint.AckEndpoint(collector)],
        )

    @classmethod
    def from_conf(
        cls, conf: cfg.ConfigOpts, transport: messaging.RPCTransport, host_map: guarded.GuardedHostMap
    ) -> Resolver:
        """The worker that the configuration asks for."""
        return cls(
            transport,
            host_map,
            agent_rpcapi.AgentAPI.from_conf(conf, transport),
            host=conf.host,
            threads=conf.resolver.threads,
            publishers=conf.resolver.publishers,
        )

    def start(self) -> None:
        """Hear acknowledgements, then take requests. Returns at once."""
        self._acks.start(override_pool_size=ACK_THREADS)
        self._requests.start(override_pool_size=self._threads)
        LOG.info('Resolver worker %s is ready', self._name.name)

    def stop(self) -> None:
        """Take no more requests, finish those in hand, close.

        Bounded by the requests' own deadlines: ``[delivery] ack_timeout``.
        """
        self._requests.stop()
        self._requests.wait()
        self._acks.stop()
        self._acks.wait()
        self._dispatcher.close()
        self._host_map.close()
        self._name.release()
        LOG.info('Resolver worker %s has stopped', self._name.name)
