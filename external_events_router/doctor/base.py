"""Checks and their results, and the objects that checks share."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import contextlib
import dataclasses
import enum
import threading

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.messaging import rpc
from external_events_router.messaging.amqp import broker as brokers

API, RESOLVER, AGENT = SERVICES = ('api', 'resolver', 'agent')

#: The services that use the database.
WITH_DATABASE = (API, RESOLVER)

#: Seconds that a check may take.
TIMEOUT = 10.0

#: Maximum number of names in the evidence of a check.
FEW = 5


class Status(enum.IntEnum):
    """The result of a check; the number is also the exit status of the command."""

    OK = 0
    WARN = 1
    FAIL = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The finding of a check.

    :ivar evidence: the facts, in one line
    :ivar remedy: what the operator should do; empty if nothing
    """

    status: Status
    evidence: str
    remedy: str = ''


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One check.

    :ivar name: for operators
    :ivar run: an exception is a FAIL of this check
    :ivar services: the services for which the check is useful
    :ivar needs: names of checks; if one of them fails, this check does not run
    :ivar timeout: seconds
    """

    name: str
    run: Callable[[Site], Result]
    services: Collection[str] = SERVICES
    needs: Sequence[str] = ()
    timeout: float = TIMEOUT


def ok(evidence: str) -> Result:
    """Return the result of a check without findings."""
    return Result(Status.OK, evidence)


def warn(evidence: str, remedy: str) -> Result:
    """Return the result of a check that found something that can become a failure."""
    return Result(Status.WARN, evidence, remedy)


def fail(evidence: str, remedy: str) -> Result:
    """Return the result of a check that found a failure."""
    return Result(Status.FAIL, evidence, remedy)


def unused(reason: str) -> Result:
    """Return the result of a check that does not apply to this configuration."""
    return Result(Status.OK, f'not used: {reason}')


def few(names: Sequence[str]) -> str:
    """Return some names as text, and the number of the other names."""
    text = ', '.join(names[:FEW])
    return text if len(names) <= FEW else f'{text} and {len(names) - FEW} others'


class Site:
    """The installation that is checked. Thread-safe; close it after use.

    :ivar conf: configuration of the service
    :ivar service: one of :data:`SERVICES`
    :ivar senders: names of the users that send events
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        *,
        service: str = API,
        senders: Sequence[str] = (),
        host: str | None = None,
    ) -> None:
        """:param conf: ``cfg.CONF``, see ``rpc.get_transport``
        :param host: host of the agent; None: the configured hosts
        """
        self.conf = conf
        self.service = service
        self.senders = senders
        self.agent_hosts = [host] if host else list(conf.agent.hosts or [conf.host])
        # Guards the attributes below.
        self._lock = threading.RLock()
        self._transport: messaging.RPCTransport | None = None
        self._database: session.Database | None = None
        self._closing = contextlib.ExitStack()

    def transport(self) -> messaging.RPCTransport:
        """Return the transport of the service. It connects at the first use.

        :raises ConfigurationError: ``[DEFAULT] transport_url`` is not valid
        """
        with self._lock:
            if self._transport is None:
                self._transport = rpc.get_transport(self.conf)
            return self._transport

    def rabbit(self) -> brokers.Broker | None:
        """Return the broker; None: the transport is not RabbitMQ.

        :raises ConfigurationError: ``[DEFAULT] transport_url`` is not valid
        """
        with self._lock:
            self.transport()
            return rpc.get_rabbit(self.conf)

    def database(self) -> session.Database:
        """Return the database of the service. It connects at the first use.

        :raises ConfigurationError: ``[database] connection`` is not valid
        """
        with self._lock:
            if self._database is None:
                self._database = self.keep(session.Database.from_conf(self.conf, read_timeout=TIMEOUT))
            return self._database

    def database_at(self, url: str, *, option: str) -> session.Database:
        """Return another database.

        :param option: option that contains the URL, for errors
        :raises ConfigurationError: the URL is not valid
        """
        return self.keep(session.Database.at(self.conf, url, option=option, read_timeout=TIMEOUT))

    def keep(self, database: session.Database) -> session.Database:
        """Close a database with this object."""
        with self._lock:
            self._closing.callback(database.close)
        return database

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._closing.close()
            if self._transport is not None:
                with contextlib.suppress(exceptions.RouterError, OSError):
                    self._transport.cleanup()
