"""Corrections to the RabbitMQ driver of oslo.messaging, which has no options for them.

* A queue or an exchange with other arguments is used as it is. The driver would declare both again as
  transient, which fails unless both are transient, and would repeat this without end.
* Without ``ssl_ca_file`` the certificate of the broker and its host name are verified with the trust store
  of the system; ``[broker] verify_tls = false`` disables the verification.
* All connections report their state to one object (``amqp.availability``), so that an unavailable broker
  is logged once; ``driver_log`` handles the log messages of the driver.
* With several nodes, the name in the certificate is compared with the node of the connection. The driver
  keeps the name of the first node.
* The size of a received message is limited, also after decompression (``amqp.bounded_message``), and so
  are its ids.

They replace three classes of ``oslo_messaging._drivers.impl_rabbit``, so they apply to all its transports in
this process. Tests with real nodes check the interfaces of these classes that are used here.
"""

from __future__ import annotations

import copy
import functools
import ssl
import threading
from typing import Any
from urllib import parse

from amqp import exceptions as amqp_exceptions
from kombu import compression
from oslo_config import cfg
from oslo_log import log
from oslo_messaging._drivers import amqp as driver_options
from oslo_messaging._drivers import common
from oslo_messaging._drivers import impl_rabbit

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.messaging.amqp import availability
from external_events_router.messaging.amqp import bounded_message

LOG = log.getLogger(__name__)

GROUP = 'oslo_messaging_rabbit'

DEFAULT_PORT = 5672

#: Maximum seconds for a connection and its login, divided among the nodes of a cluster, and minimum for one.
CONNECT_TIMEOUT = 5.0
SHORTEST_CONNECT = 1.0

#: Other defaults: RabbitMQ 4.3 denies transient queues that are not exclusive. A thread tries for some
#: seconds to send a reply to a queue that does not exist: no caller waits longer, and other calls need
#: the thread.
DEFAULTS: dict[str, bool | int] = {
    'amqp_durable_queues': True,
    'rabbit_transient_quorum_queue': True,
    'kombu_missing_consumer_retry_timeout': 5,
}


def set_defaults() -> None:
    """Set the defaults of this service for options of the driver, also for the sample file."""
    for options in (impl_rabbit.rabbit_opts, driver_options.amqp_opts):
        known = {option.dest for option in options}
        cfg.set_defaults(options, **{name: value for name, value in DEFAULTS.items() if name in known})


def register_options(conf: cfg.ConfigOpts) -> None:
    """Register the options of the driver, as it does itself when a transport is created."""
    conf.register_opts(impl_rabbit.rabbit_opts, group=GROUP)
    conf.register_opts(driver_options.amqp_opts, group=GROUP)


def is_set(conf: cfg.ConfigOpts, name: str) -> bool:
    """Return whether the configuration sets an option of the driver; False: it has a default."""
    found = conf.get_location(name, GROUP)
    return found is not None and found.location not in (
        cfg.Locations.opt_default,
        cfg.Locations.set_default,
    )


def verifies_tls(conf: Any) -> bool:
    """Return whether the certificates of brokers are verified; True if the option is not registered."""
    try:
        return bool(conf.broker.verify_tls)
    except cfg.NoSuchOptError:
        return True


_PLACEHOLDER = 'placeholder'


class NodeTLS(dict[str, Any]):
    """The argument ``ssl`` of py-amqp, with the host name of each node.

    NOTE: kombu sets the name of the node only if ``server_hostname`` is None, so only once. This class
    always returns None for it, but py-amqp unpacks the dictionary and gets the value that was set.
    """

    def __getitem__(self, name: str) -> Any:
        return None if name == 'server_hostname' else super().__getitem__(name)


class Connection(impl_rabbit.Connection):
    """The connection of the driver, with verified certificates."""

    def __init__(self, conf: Any, url: Any, purpose: str, *args: Any, **kwargs: Any) -> None:
        self._verifies_tls = verifies_tls(conf)
        # NOTE: needed by methods that the constructor of the parent class calls.
        addresses = [f'{host.hostname or "localhost"}:{host.port or DEFAULT_PORT}' for host in url.hosts]
        self._availability = availability.of(addresses or [f'localhost:{DEFAULT_PORT}'])
        # NOTE: a connection of the pool is not opened again before the next publish.
        self._is_kept = purpose == common.PURPOSE_LISTEN
        self._connect_timeout = max(SHORTEST_CONNECT, CONNECT_TIMEOUT / max(1, len(url.hosts)))
        super().__init__(conf, url, purpose, *args, **kwargs)

    def _transform_transport_url(
        self,
        url: Any,
        host: Any,
        default_username: str = '',
        default_password: str = '',
        default_hostname: str = '',
    ) -> str:
        # NOTE: the driver does not quote a slash in a user name or password, which results in another URL.
        quoted = copy.copy(host)
        # NOTE: a placeholder that needs no quoting; it is replaced below.
        quoted.username, quoted.password = _PLACEHOLDER, _PLACEHOLDER
        text = super()._transform_transport_url(url, quoted, default_hostname=default_hostname)
        username = parse.quote(host.username or default_username, safe='')
        password = parse.quote(host.password or default_password, safe='')
        return str(text.replace(f'{_PLACEHOLDER}:{_PLACEHOLDER}@', f'{username}:{password}@', 1))

    def ensure_connection(self) -> None:
        # NOTE: kombu waits 5 s for each node. A node that accepts connections but does not answer must not
        # use up the time of the other nodes. kombu reads the parameters again for each node.
        self.connection.connect_timeout = self._connect_timeout
        self.connection._initial_params['connect_timeout'] = self._connect_timeout
        self._set_current_channel(None)
        # NOTE: the same as in the driver, but without its log message in the callback.
        try:
            self.connection.ensure_connection(
                errback=lambda exc, _interval: self._lost(exc),
                max_retries=self.max_retries,
                interval_start=self.interval_start,
                interval_step=self.interval_stepping,
                interval_max=self.interval_max,
            )
        except Exception as exc:
            self._lost(exc)
            raise
        self._set_current_channel(self.connection.channel())
        self.set_transport_socket_timeout()

    def ensure(
        self,
        method: Any,
        retry: Any = None,
        recoverable_error_callback: Any = None,
        error_callback: Any = None,
        timeout_is_error: bool = True,
    ) -> Any:
        """See the parent class."""

        def lost(exc: BaseException) -> None:
            if not isinstance(exc, common.Timeout):
                self._lost(exc)
            if recoverable_error_callback is not None:
                recoverable_error_callback(exc)

        return super().ensure(method, retry, lost, error_callback, timeout_is_error)

    def close(self) -> None:
        """See the parent class."""
        super().close()
        self._availability.closed(self)

    def _set_current_channel(self, new_channel: Any) -> None:
        super()._set_current_channel(new_channel)
        if new_channel is not None:
            new_channel.Message = functools.partial(
                bounded_message.BoundedMessage, trusted=self._own_compression()
            )
            self._availability.connected(self)

    def _own_compression(self) -> str | None:
        """Return the name of the configured compression in a message."""
        try:
            return str(compression.get_encoder(self.kombu_compression)[1])  # type: ignore[no-untyped-call]
        except KeyError:
            return None

    def _on_connection_blocked(self, reason: str) -> None:  # type: ignore[override,unused-ignore]
        self._availability.alarm.add(self, reason)

    def _on_connection_unblocked(self) -> None:  # type: ignore[override,unused-ignore]
        self._availability.alarm.remove(self)

    def _lost(self, exc: BaseException) -> None:
        reason = f'{self.purpose} connection of oslo.messaging: {str(exc) or type(exc).__name__}'
        self._availability.lost(self, reason, lasting=self._is_kept)

    def _fetch_ssl_params(self) -> dict[str, Any] | bool:
        params = super()._fetch_ssl_params()
        if not params:
            return False
        params = {} if params is True else dict(params)
        if self._verifies_tls:
            params |= {'cert_reqs': ssl.CERT_REQUIRED, 'server_hostname': None}
        else:
            params |= {'cert_reqs': ssl.CERT_NONE}
            params.pop('server_hostname', None)
        return NodeTLS(params)


class Message(impl_rabbit.RabbitMessage):
    """The message of the driver, with ids of limited size, because the driver keeps and logs them."""

    def __init__(self, raw_message: Any) -> None:
        super().__init__(raw_message)
        for name in ('_unique_id', '_msg_id', '_reply_q'):
            value = self.get(name)
            if value is not None and not (
                type(value) is str and len(value) <= checks.MAX_ROUTING_KEY and value.isprintable()
            ):
                raise exceptions.MalformedMessage(what=name, value=checks.shown(value))


class Consumer(impl_rabbit.Consumer):
    """The consumer of the driver, which uses existing queues and exchanges as they are."""

    def declare(self, conn: Any) -> None:
        """See the parent class."""
        try:
            super().declare(conn)
        except amqp_exceptions.PreconditionFailed as exc:
            # NOTE: the driver itself does this only if the difference is ``durable``.
            self._declare_fallback_nondurable(exc, conn, None)
            self._declared_on = conn.channel

    def _declare_fallback_nondurable(self, err: Exception, conn: Any, consumer_arguments: Any) -> None:
        """Use a queue or exchange as it is; called after the broker has refused its declaration."""
        channel = conn.channel
        if self.exchange_name:
            channel.exchange_declare(self.exchange_name, self.type, passive=True)
        try:
            self._declare_queue(channel)
        except amqp_exceptions.PreconditionFailed as exc:
            LOG.warning(
                'Queue %s has other arguments than this configuration, and is used as it is: %s',
                self.queue_name,
                exc.reply_text,
            )
            channel.queue_declare(self.queue_name, passive=True)
        self.queue.queue_bind()

    def _declare_queue(self, channel: Any) -> None:
        channel.queue_declare(
            self.queue_name,
            durable=self.durable,
            auto_delete=self.queue_auto_delete,
            arguments=self.queue_arguments,
        )


def install() -> None:
    """Make the driver use these classes. Repeated calls have no effect."""
    impl_rabbit.Connection = Connection
    impl_rabbit.Consumer = Consumer
    impl_rabbit.RabbitMessage = Message


def check(transport: Any, url: Any, *, timeout: float) -> None:
    """Connect once with the driver, which interprets some options differently from direct AMQP.

    :param transport: a transport of oslo.messaging
    :param url: its URL, parsed
    :param timeout: seconds
    :raises ConfigurationError: the driver refuses an option, or cannot connect
    """
    problems: list[str] = []

    def connect() -> None:
        try:
            connection = impl_rabbit.Connection(
                transport._driver.conf, url, common.PURPOSE_LISTEN, retry=len(url.hosts)
            )
            if connection.use_queue_manager:
                connection._q_manager.get()
            connection.close()
        except Exception as exc:  # the driver raises various exceptions
            problems.append(f'{type(exc).__name__}: {exc}'.partition('\n')[0])

    # NOTE: on a thread, because some waits of the driver have no limit.
    thread = threading.Thread(target=connect, name='check', daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        problems.append(f'no connection in {timeout:.0f} s')
    if problems:
        raise exceptions.ConfigurationError(
            option=f'[{GROUP}]',
            reason=f'oslo.messaging cannot connect with these options: {problems[0]}',
        )
