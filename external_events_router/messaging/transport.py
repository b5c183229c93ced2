"""One transport for both ends: cast many messages with a result for each, and listen on a queue.

There are two implementations. :class:`DirectTransport` uses connections of this service to RabbitMQ
(see ``amqp``). :class:`OsloTransport` uses oslo.messaging, for every other driver. The messages are the
same, so processes with different implementations work together.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import logging
import threading
import time
from typing import Any
from typing import Protocol

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router import settling
from external_events_router.concurrency import bounded_pool
from external_events_router.messaging import gate
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import broker as brokers
from external_events_router.messaging.amqp import consumer
from external_events_router.messaging.amqp import envelope
from external_events_router.messaging.amqp import loop as loops
from external_events_router.messaging.amqp import publisher

LOG = logging.getLogger(__name__)

#: Seconds that the start of a listener waits for the broker; after that it listens later.
LISTEN_TIMEOUT = 5.0

#: Seconds that ending a connection may take.
STOP_TIMEOUT = 2.0

#: Result of one message or group: its position in the call, and None or the reason why it is in no queue.
#: ``Unroutable``: the queue does not exist; ``Unsendable``: it cannot be encoded; ``BrokerUnavailable``:
#: the broker did not confirm it, so it may be in the queue.
Done = Callable[[int, exceptions.RouterError | None], None]

#: The broker has no queue for the message.
Unroutable = publisher.Unroutable


@dataclasses.dataclass(slots=True)
class Message:
    """A cast to one server of a topic.

    :ivar encoded: its form on a direct AMQP connection, after :meth:`Transport.cast`
    :ivar is_published: whether it was passed to oslo.messaging
    """

    topic: str
    server: str
    call: envelope.Call
    encoded: publisher.Message | None = None
    is_published: bool = False

    @property
    def is_sent(self) -> bool:
        """Whether the message was passed to a connection. If not, the server cannot have received it."""
        return self.is_published or (self.encoded is not None and self.encoded.is_sent)


class Watcher(Protocol):
    """Is notified whether messages can arrive. The calls must not block."""

    def connected(self) -> None:
        """Handle that messages can arrive from now on."""
        ...

    def disconnected(self, reason: str) -> None:
        """Handle that no message can arrive until :meth:`connected`. May be called repeatedly."""
        ...


class Listener(Protocol):
    """Passes the messages of one queue to its endpoint, in their order."""

    def start(self) -> None:
        """Begin to take messages."""
        ...

    def stop(self, timeout: float) -> bool:
        """Take no more messages.

        :param timeout: seconds
        :returns: whether the endpoint will not be called any longer
        """
        ...


class Transport(Protocol):
    """Messages between a process and the servers of topics. Thread-safe."""

    def cast(self, messages: Sequence[Message], done: Done, *, until: float) -> None:
        """Send messages without waiting; those to one server arrive in their order.

        :param done: called exactly once for each message, mostly from another thread; must not block
        :param until: instant of ``time.monotonic()`` after which a message is not sent
        """
        ...

    def run_soon(self, callback: Callable[[], None]) -> None:
        """Call a function that casts: at once, or soon on the thread of the transport, if it has one."""
        ...

    def listener(
        self,
        topic: str,
        server: str,
        endpoint: Any,
        *,
        threads: int = 1,
        watcher: Watcher | None = None,
        automatic: bool = False,
    ) -> Listener:
        """Return a listener on the queue of a server; it does not listen before its start.

        :param endpoint: has ``target`` and exposed methods, see ``rpc``; it answers casts only
        :param threads: maximum number of threads that call the endpoint, if the implementation has several
        :param watcher: notified by direct AMQP; oslo.messaging does not know when it is disconnected
        :param automatic: with direct AMQP, messages on their way may be lost with the connection, see
            ``amqp.consumer``; oslo.messaging always acknowledges them
        """
        ...

    def start(self) -> None:
        """Connect, in the background."""
        ...

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Send nothing more, and disconnect.

        :param timeout: seconds
        """
        ...


def from_conf(
    conf: cfg.ConfigOpts,
    oslo_transport: messaging.RPCTransport,
    *,
    exchange: str | None = None,
    threads: int = 1,
    broker_gate: gate.BrokerGate | None = None,
    keeps_bindings: bool = False,
) -> Transport:
    """Return the transport of the configuration.

    :param exchange: the exchange for casts; None: the exchange of all topics
    :param threads: maximum number of casts at the same time, with oslo.messaging
    :param broker_gate: with oslo.messaging, makes casts fail at once while the broker is unavailable
    :param keeps_bindings: with oslo.messaging on RabbitMQ, declare the bindings of the queues again
    """
    broker = rpc.get_broker(conf) if conf.compute.direct_amqp else None
    if broker is not None:
        return DirectTransport(broker, exchange=exchange)
    bindings = rpc.get_bindings(conf) if keeps_bindings else None
    return OsloTransport(
        oslo_transport, exchange=exchange, threads=threads, broker_gate=broker_gate, bindings=bindings
    )


class DirectTransport:
    """Direct AMQP. It has two connections: a broker in alarm reads nothing from a publishing connection."""

    def __init__(self, broker: brokers.Broker, *, exchange: str | None = None) -> None:
        """:param exchange: see :func:`from_conf`"""
        target = broker if exchange is None else dataclasses.replace(broker, exchange=exchange)
        self._loop = loops.Loop(name='amqp')
        self._publisher = publisher.Publisher(target, name='casts', loop=self._loop)
        self._consumer = consumer.Consumer(broker, name='listeners', loop=self._loop)

    def cast(self, messages: Sequence[Message], done: Done, *, until: float) -> None:
        """See :class:`Transport`."""
        once: settling.Once[exceptions.RouterError] = settling.Once(len(messages), done)
        numbers, encoded = list[int](), list[publisher.Message]()
        for number, message in enumerate(messages):
            try:
                message.encoded = publisher.Message(
                    f'{message.topic}.{message.server}', envelope.encode(message.call)
                )
                encoded.append(message.encoded)
            except Exception as exc:  # this message alone
                LOG.exception('A message to %s cannot be encoded', message.server)
                once.settle(number, exceptions.Unsendable(reason=f'unexpected {type(exc).__name__}'))
            else:
                numbers.append(number)
        if not encoded:
            return
        try:
            self._publisher.publish(
                encoded, lambda index, error: once.settle(numbers[index], error), until=until
            )
        except Exception as exc:
            LOG.exception('Messages cannot be published')
            once.settle_rest(exceptions.BrokerUnavailable(reason=f'unexpected {type(exc).__name__}'))

    def run_soon(self, callback: Callable[[], None]) -> None:
        """See :class:`Transport`. All messages that are cast until then are sent in one write."""
        self._loop.run_soon(callback)

    def listener(
        self,
        topic: str,
        server: str,
        endpoint: Any,
        *,
        threads: int = 1,
        watcher: Watcher | None = None,
        automatic: bool = False,
    ) -> Listener:
        """See :class:`Transport`. The thread of the connection calls the endpoint."""
        return _DirectListener(
            self._consumer, f'{topic}.{server}', rpc.listener(endpoint), watcher, automatic=automatic
        )

    def start(self) -> None:
        """See :class:`Transport`."""
        self._publisher.start()
        self._consumer.start()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """See :class:`Transport`."""
        self._consumer.stop(timeout)
        self._publisher.stop(timeout)


class _DirectListener:
    """A queue of a consumer that other listeners of the process share."""

    def __init__(
        self,
        consuming: consumer.Consumer,
        queue: str,
        take: consumer.Listener,
        watcher: Watcher | None,
        *,
        automatic: bool,
    ) -> None:
        self._consumer = consuming
        self._queue = queue
        self._take = take
        self._watcher = watcher
        self._automatic = automatic

    def start(self) -> None:
        """See :class:`Listener`. Waits for the broker for :data:`LISTEN_TIMEOUT` at most."""
        listens = self._consumer.listen(
            self._queue, self._take, watcher=self._watcher, automatic=self._automatic
        )
        listens.wait(LISTEN_TIMEOUT)

    def stop(self, timeout: float) -> bool:
        """See :class:`Listener`."""
        return self._consumer.cancel(self._queue).wait(timeout)


class OsloTransport:
    """oslo.messaging, which blocks: a few threads send, and callers do not wait for them."""

    def __init__(
        self,
        transport: messaging.RPCTransport,
        *,
        exchange: str | None = None,
        threads: int = 1,
        broker_gate: gate.BrokerGate | None = None,
        bindings: consumer.Consumer | None = None,
    ) -> None:
        """:param exchange: see :func:`from_conf`
        :param threads: casts at the same time
        :param broker_gate: see :func:`from_conf`
        :param bindings: result of ``rpc.get_bindings``; None: bindings are not declared again
        """
        self._transport = transport
        self._exchange = exchange
        self._gate = broker_gate
        self._bindings = bindings
        self._pool = bounded_pool.BoundedPool(threads, 'publisher')
        self._client = functools.lru_cache(maxsize=10)(self._make_client)

    def cast(self, messages: Sequence[Message], done: Done, *, until: float) -> None:
        """See :class:`Transport`. A server occupies one thread at a time for each call."""
        once: settling.Once[exceptions.RouterError] = settling.Once(len(messages), done)
        by_server: dict[tuple[str, str], list[int]] = {}
        for number, message in enumerate(messages):
            by_server.setdefault((message.topic, message.server), []).append(number)
        for numbers in by_server.values():
            job = functools.partial(self._cast_all, [(each, messages[each]) for each in numbers], once, until)
            if not self._submit(job):
                for number in numbers:
                    once.settle(number, exceptions.BrokerUnavailable(reason='no thread is left for it'))

    def run_soon(self, callback: Callable[[], None]) -> None:
        """See :class:`Transport`."""
        callback()

    def listener(
        self,
        topic: str,
        server: str,
        endpoint: Any,
        *,
        threads: int = 1,
        watcher: Watcher | None = None,
        automatic: bool = False,
    ) -> Listener:
        """See :class:`Transport`."""
        target = messaging.Target(topic=topic, server=server)
        made = rpc.get_server(self._transport, target, [endpoint], replies=False)
        return _OsloListener(made, threads, f'{topic}.{server}', self._bindings)

    def start(self) -> None:
        """See :class:`Transport`. oslo.messaging connects when it is used."""
        if self._bindings is not None:
            self._bindings.start()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """See :class:`Transport`. A cast that hangs is not waited for."""
        if self._bindings is not None:
            self._bindings.stop(timeout)
        self._pool.close()

    def _submit(self, job: Callable[[], None]) -> bool:
        try:
            return not self._pool.submit(job).cancelled()
        except RuntimeError as exc:
            LOG.error('A thread that publishes cannot be started: %s', exc)
            return False

    def _cast_all(
        self,
        messages: Sequence[tuple[int, Message]],
        once: settling.Once[exceptions.RouterError],
        until: float,
    ) -> None:
        for number, message in messages:
            once.settle(number, self._cast(message, until))

    def _cast(self, message: Message, until: float) -> exceptions.RouterError | None:
        """Return why a message is in no queue, or None."""
        if time.monotonic() >= until:
            return exceptions.BrokerUnavailable(reason='not sent in time')
        began = time.monotonic()
        try:
            if self._gate is None:
                self._publish(message)
            else:
                with self._gate.cast():
                    self._publish(message)
        except exceptions.RouterError as exc:
            LOG.debug('Cast to %s failed after %.3f s: %s', message.server, time.monotonic() - began, exc)
            return exc
        except Exception as exc:  # the outermost frame of this thread's work
            LOG.exception('Cast to %s failed', message.server)
            return exceptions.Unsendable(reason=f'unexpected {type(exc).__name__}')
        return None

    def _publish(self, message: Message) -> None:
        message.is_published, call = True, message.call
        client = self._client(message.topic).prepare(server=message.server, version=call.version)
        with rpc.translated(host=message.server):
            try:
                client.cast(dict(call.context), call.method, **call.arguments)
            except messaging.MessageUndeliverable as exc:
                raise Unroutable(routing_key=f'{message.topic}.{message.server}') from exc

    def _make_client(self, topic: str) -> messaging.RPCClient:
        target = messaging.Target(exchange=self._exchange, topic=topic)
        # NOTE: the context is a dict already.
        return rpc.get_client(self._transport, target, routed=True, serializer=messaging.NoOpSerializer())


class _OsloListener:
    """An RPC server of oslo.messaging."""

    def __init__(
        self,
        server: messaging.MessageHandlingServer,
        threads: int,
        queue: str,
        bindings: consumer.Consumer | None,
    ) -> None:
        self._server = server
        self._threads = threads
        self._queue = queue
        self._bindings = bindings

    def start(self) -> None:
        """See :class:`Listener`. Blocks while the broker is unavailable."""
        # NOTE: more than one thread would take the messages out of their order.
        self._server.start(override_pool_size=self._threads)
        if self._bindings is not None:
            self._bindings.keep_bound(self._queue)

    def stop(self, timeout: float) -> bool:
        """See :class:`Listener`."""
        # NOTE: on a separate thread, because a listener that tries to connect does not end before it has.
        thread = threading.Thread(target=self._end, name='stop-listening', daemon=True)
        thread.start()
        thread.join(timeout)
        return not thread.is_alive()

    def _end(self) -> None:
        self._server.stop()
        self._server.wait()


class Groups:
    """Sends groups of messages, and reports each group once, when all its messages have a result."""

    def __init__(self, groups: int, done: Done) -> None:
        """:param done: called once for each group, with the first error of its messages"""
        self._once: settling.Once[exceptions.RouterError] = settling.Once(groups, done)
        # Of each message: its group. Of each group: messages without a result, and the first error.
        self._messages: list[Message] = []
        self._group_of: list[int] = []
        self._left = [0] * groups
        self._errors: list[exceptions.RouterError | None] = [None] * groups
        self._lock = threading.Lock()

    def add(self, group: int, messages: Sequence[Message]) -> None:
        """Add the messages of a group, before :meth:`cast`."""
        self._messages += messages
        self._group_of += [group] * len(messages)
        self._left[group] = len(messages)

    def settle(self, group: int, error: exceptions.RouterError | None) -> None:
        """Report a group that has no messages."""
        self._once.settle(group, error)

    def cast(self, transport: Transport, *, until: float) -> None:
        """Send all messages; see :meth:`Transport.cast`."""
        if not self._messages:
            return
        try:
            transport.cast(self._messages, self._settle, until=until)
        except Exception as exc:  # each group must be reported
            LOG.exception('Messages cannot be cast')
            self._once.settle_rest(exceptions.BrokerUnavailable(reason=f'unexpected {type(exc).__name__}'))

    def _settle(self, number: int, error: exceptions.RouterError | None) -> None:
        group = self._group_of[number]
        with self._lock:
            self._errors[group] = self._errors[group] or error
            self._left[group] -= 1
            if self._left[group]:
                return
        self._once.settle(group, self._errors[group])
