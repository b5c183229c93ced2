"""Check of the whole path of an event: this check creates a host, sends it an event, and answers for it.

The name of the host begins with ``external-events-doctor:``; no real host has such a name. The host is not
in the host map, it sends no report, and only this check sends it events. Its queue, and the queue of its
acknowledgements, are deleted at the end; if the process is killed, the broker deletes them after a
minute.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import time
import uuid

import amqp

from external_events_router import context
from external_events_router import events
from external_events_router.agent import handlers as agent_handlers
from external_events_router.agent import rpcapi as agent_rpcapi
from external_events_router.agent import runtime
from external_events_router.agent import service as agent_service
from external_events_router.doctor import base
from external_events_router.doctor import broker as broker_checks
from external_events_router.doctor import probe
from external_events_router.messaging import transport as transports
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.resolver import rpcapi
from external_events_router.resolver.drivers import base as drivers_base
from external_events_router.resolver.drivers.agent import driver as agent_driver

#: Seconds until the acknowledgement.
TIMEOUT = 5.0


def check_canary(site: base.Site) -> base.Result:
    """Send an event to a host of this check, and wait for the acknowledgement."""
    if site.conf.compute.driver == 'nova':
        return base.unused('[compute] driver is nova: only nova-compute handles events')
    host = f'{probe.HOST}:{uuid.uuid4().hex}'
    event = events.Event('network-changed', str(uuid.uuid4()))
    began = time.monotonic()
    with _sides(site, host) as deliver:
        verdict, reason = deliver(event)
    elapsed = 1000 * (time.monotonic() - began)
    if verdict is not events.Verdict.HANDLED:
        return base.fail(
            f'the event was not acknowledged: {reason or verdict}',
            'repair the broker, or see external-events-manage broker permissions',
        )
    return base.ok(f'an event was delivered to {host}, handled and acknowledged; in all {elapsed:.0f} ms')


@contextlib.contextmanager
def _sides(site: base.Site, host: str) -> Iterator[_Deliver]:
    """Start the side of the resolver and the side of the agent, and stop both at the end."""
    sending, receiving = _transport(site), _transport(site)
    topic = site.conf.compute.topic
    shared = runtime.AgentRuntime(receiving, _NoReports(), workers=1)
    agent = agent_service.Agent(
        site.transport(), host, topic=topic, handlers=agent_handlers.Handlers([_accept]), shared=shared
    )
    driver = agent_driver.AgentDriver(sending, agent_rpcapi.AgentAPI(sending, topic=topic), queues=None)
    deliverer = driver.deliverer(host, _NoObserver())
    with contextlib.ExitStack() as stack:
        stack.callback(_delete_queues, site, [f'{topic}.{host}', f'{rpcapi.ACK_TOPIC}.{host}'])
        stack.callback(shared.stop, 1.0)
        shared.start()
        stack.callback(agent.stop, 1.0)
        agent.start()
        stack.callback(deliverer.stop)
        deliverer.start()
        yield _Deliver(deliverer, host)


@dataclasses.dataclass(frozen=True, slots=True)
class _Deliver:
    deliverer: drivers_base.Deliverer
    host: str

    def __call__(self, event: events.Event) -> tuple[events.Verdict | None, str | None]:
        answers = self.deliverer.deliver(
            context.for_service(),
            {self.host: [event]},
            deadline=time.monotonic() + TIMEOUT,
            lifetime=lambda _event: 10 * TIMEOUT,
            records=drivers_base.NO_RECORDS,
        )
        answer = answers[self.host, event.id]
        return answer.verdict, answer.reason


def _transport(site: base.Site) -> transports.Transport:
    """Return a transport whose queues the broker deletes when they are unused."""
    broker = _broker(site)
    if broker is None:
        return transports.OsloTransport(site.transport())
    return transports.DirectTransport(broker)


def _broker(site: base.Site) -> brokers.Broker | None:
    broker = site.rabbit()
    if broker is None:
        return None
    return dataclasses.replace(
        broker, queue_arguments={**broker.queue_arguments, 'x-expires': probe.EXPIRES}, failed_at={}
    )


def _delete_queues(site: base.Site, names: Sequence[str]) -> None:
    broker = _broker(site)
    if broker is None:
        return
    with (
        contextlib.suppress(amqp.AMQPError, OSError),
        broker_checks.connected(broker, 'canary') as connection,
    ):
        for name in names:
            with contextlib.suppress(amqp.AMQPError):
                connection.channel().queue_delete(name)


def _accept(_ctxt: context.RequestContext, _event: events.Event) -> None:
    """Handle the event: there is nothing to do."""


class _NoReports:
    """Takes the reports of the host, and sends them to no resolver."""

    def report(
        self,
        ctxt: context.RequestContext,
        host: str,
        server_uuids: Iterable[str] | None,
        token: str = '',
    ) -> rpcapi.Reported:
        """Return the time of this process, as a resolver would."""
        return rpcapi.Reported(time.time())


class _NoObserver:
    """See ``resolver.drivers.base.HostObserver``; the check needs only the answer."""

    def answered(self, host: str) -> None:
        pass

    def responded(self, host: str, began: float) -> None:
        pass

    def silent(self, reasons: Mapping[str, str]) -> None:
        pass

    def late(self, host: str, results: Sequence[tuple[str, events.Result]] = ()) -> None:
        pass

    def wait(self, hosts: Collection[str]) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


CHECKS = (
    base.Check(
        'canary',
        check_canary,
        needs=('broker-login', 'broker-alarm'),
        timeout=30.0,
        services=base.WITH_DATABASE,
    ),
)
