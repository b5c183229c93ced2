"""What runs on the compute hosts, as ``[compute] driver`` says: our agent, or nova-compute."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Protocol

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router.resolver import endpoint
from external_events_router.resolver import proofs
from external_events_router.resolver.drivers.agent import acks
from external_events_router.resolver.drivers.agent import delivery
from external_events_router.resolver.drivers.agent import roads
from external_events_router.resolver.drivers.nova import cell_client
from external_events_router.resolver.drivers.nova import deliverer as nova_deliverer
from external_events_router.resolver.health import liveness
from external_events_router.resolver.health import slow_host_limiter


@dataclasses.dataclass(frozen=True, slots=True)
class HostObserver:
    """Who is told what deliveries show of a host.

    :ivar answered: it took something, in time
    :ivar silent: these took nothing, and why
    :ivar late: it took something when nobody waited any more
    :ivar heard: it took something that it was sent at an instant of ``time.monotonic()``
    :ivar pace: of the hosts
    """

    answered: Callable[[str], None]
    silent: Callable[[Mapping[str, str]], None]
    late: Callable[[str], None]
    heard: Callable[[str, float], None]
    pace: slow_host_limiter.SlowHostLimiter


class Driver(Protocol):
    """What is particular to what runs on the hosts.

    :ivar rounds: the deliveries that are waited for, once there is a deliverer; None: they cannot be failed
    :ivar queues: of the hosts; None: they cannot be looked at
    :ivar tokens: sends hosts the tokens for their reports; None: they do not report
    """

    rounds: liveness.Rounds | None
    queues: liveness.Queues | None
    tokens: proofs.Sender | None

    def deliverer(self, name: str, observer: HostObserver) -> delivery.Deliverer:
        """What delivers for a worker; before the start.

        :param name: the worker's
        """
        ...

    def start(self) -> None:
        """Begin to hear and to send."""
        ...

    def stop(self) -> None:
        """Hear and send no more."""
        ...


def from_conf(conf: cfg.ConfigOpts, transport: messaging.RPCTransport) -> Driver:
    """The driver that the configuration asks for.

    :raises ConfigurationError: a value cannot be used
    """
    check(conf)
    if conf.compute.driver == 'nova':
        replies = conf.nova.acknowledge == 'reply'
        return NovaDriver(
            cell_client.CellClients(conf), reply_timeout=conf.nova.reply_timeout if replies else None
        )
    return AgentDriver(roads.from_conf(conf, transport))


def check(conf: cfg.ConfigOpts) -> None:
    """Insist on a host map that goes with the driver.

    :raises ConfigurationError: they do not go together
    """
    # NOTE: nova-compute gets the instance as its databases have it, which only
    # Nova's own map reads; and its hosts have the names of two cells' hosts.
    if (conf.compute.driver == 'nova') != (conf.host_map.backend == 'nova'):
        raise exceptions.ConfigurationError(
            option='[compute] driver',
            reason=f'{conf.compute.driver} does not go with [host_map] backend = {conf.host_map.backend}',
        )


class AgentDriver:
    """Our agents, over a road of deliveries and acknowledgements."""

    def __init__(self, road: roads.Road) -> None:
        self._road = road
        self.rounds: liveness.Rounds | None = None
        self.queues: liveness.Queues | None = road.queues
        self.tokens: proofs.Sender | None = road.tokens

    def deliverer(self, name: str, observer: HostObserver) -> delivery.Deliverer:
        """See :class:`Driver`."""
        collector = acks.Collector(late=observer.late, heard=observer.heard)
        self.rounds = collector
        self._road.hear(name, endpoint.AckEndpoint(collector), collector)
        return delivery.AgentDeliverer(
            self._road.casts,
            collector,
            reply_to=name,
            slow_hosts=observer.pace,
            answered=observer.answered,
            silent=observer.silent,
        )

    def start(self) -> None:
        """See :class:`Driver`."""
        self._road.start()

    def stop(self) -> None:
        """See :class:`Driver`."""
        self._road.stop()


class NovaDriver:
    """nova-compute, over a line to each cell."""

    def __init__(self, lines: cell_client.CellClients, *, reply_timeout: float | None) -> None:
        """:param reply_timeout: see :class:`nova.deliverer.NovaDeliverer`"""
        self._lines = lines
        self.rounds: liveness.Rounds | None = None
        self.queues: liveness.Queues | None = None
        self.tokens: proofs.Sender | None = None
        self._reply_timeout = reply_timeout

    def deliverer(self, name: str, observer: HostObserver) -> delivery.Deliverer:
        """See :class:`Driver`."""
        return nova_deliverer.NovaDeliverer(
            self._lines,
            reply_timeout=self._reply_timeout,
            answered=observer.answered,
            silent=observer.silent,
            late=observer.late,
            heard=observer.heard,
            slow_hosts=observer.pace,
        )

    def start(self) -> None:
        """Nothing is heard, and lines are made when they are needed."""

    def stop(self) -> None:
        """See :class:`Driver`."""
        self._lines.close()
