"""All exceptions of this package.

Imports only the standard library and ``checks``. Exceptions of other libraries are translated, with
``from``, where they occur (``rpcapi`` for messaging, ``db`` and the host maps for the database).
Results of single events are data (:class:`external_events_router.events.Outcome`), not exceptions: an
exception means that a whole operation has failed.
"""

from __future__ import annotations

from typing import Any

from external_events_router import checks


class RouterError(Exception):
    """The base class: a message template and its arguments, which are kept in ``kwargs``.

    It can be sent over RPC: the receiver rebuilds it as ``cls(message, **kwargs)``.
    """

    template = 'An unknown error occurred.'

    def __init__(self, message: str | None = None, /, **kwargs: Any) -> None:
        self.kwargs = kwargs
        super().__init__(message if message is not None else self.template.format(**kwargs))


class ConfigurationError(RouterError):
    """An option has a value that is not valid; the service does not start."""

    template = '{option}: {reason}'


class MalformedMessage(RouterError):
    """A message, or a line of a file, does not have the agreed format."""

    template = 'malformed {what}: {value}'

    def __init__(self, message: str | None = None, /, **kwargs: Any) -> None:
        # NOTE: the value may be large, and the text is logged and sent over RPC, so it is cut here. A
        # caller that rebuilds the exception passes the message, and the value as text.
        if message is None and 'value' in kwargs:
            kwargs['value'] = checks.shown(kwargs['value'])
        super().__init__(message, **kwargs)


class InvalidArgument(RouterError):
    """An argument of an operator is not valid; nothing was changed."""

    template = '{reason}'


class Conflict(RouterError):
    """An object was changed by another request since the caller read it; nothing was changed."""

    template = '{what} was changed meanwhile: read it again'


class BrokerUnavailable(RouterError):
    """The broker did not accept the message in time."""

    template = 'the message broker did not accept the message: {reason}'


class NewerSchema(RouterError):
    """The schema of the database belongs to a newer release."""

    template = (
        'the schema has version {revision}, newer than this release supports ({newest}); nothing changed. '
        'Run this command from the newer release, or restore a backup to return to this release'
    )


class HostUnreachable(RouterError):
    """The broker has no queue for the host, because no agent has started there."""

    template = 'no agent listens for host {host}'


class Unsendable(RouterError):
    """The message cannot be encoded, so it can never be sent."""

    template = 'the message cannot be sent: {reason}'


class InvalidHost(RouterError):
    """The name of a host is not valid, so the host cannot have a queue."""

    template = (
        'nothing can be sent to host {host}: its name is too long or contains characters that are not '
        'permitted; assign the server to another host name and unassign this one'
    )

    def __init__(self, message: str | None = None, /, **kwargs: Any) -> None:
        if message is None:
            kwargs['host'] = checks.shown(kwargs['host'])
        super().__init__(message, **kwargs)


class NoReply(RouterError):
    """A host did not reply in time; it is unknown whether the events were handled."""

    template = 'host {host} did not reply: {reason}'


class HostFailed(RouterError):
    """A host has replied with an error."""

    template = 'host {host} failed with {error}'


class ResolverUnavailable(RouterError):
    """No resolver answered in time; it is unknown whether the events were delivered."""

    template = 'no resolver answered: {reason}'


class DatabaseUnavailable(RouterError):
    """The database is unavailable, or did not answer in time."""

    template = 'the database is unavailable: {reason}'


class DatabaseRefused(DatabaseUnavailable):
    """The database has answered that it refuses the statement or its values."""

    template = 'the database refused the statement: {reason}'


class NoSuchServer(RouterError):
    """The host map does not contain the server."""

    template = 'no server {server_uuid} in the host map'


class NoSuchEvent(RouterError):
    """The hold does not contain the event, neither held nor ended."""

    template = 'no event {event_id} in the hold'


class ReadOnlyHostMap(RouterError):
    """The host map in use is read-only, because another service writes it."""

    template = 'this host map cannot be written: {reason}'


class BadLine(RouterError):
    """A line of a host map file is not valid; the whole file is ignored."""

    template = 'line {number}: {reason}'


class NotHere(RouterError):
    """Raised by a handler: the server is not on this host."""

    template = 'server {server_uuid} is not on this host'


class Refused(RouterError):
    """Raised by a handler: the event will never be handled on this host; do not send it again."""

    template = 'refused: {reason}'


class WaitTimeout(RouterError):
    """Awaited events did not arrive in time."""

    template = 'waited {timeout} s for {missing}'


class AgentStopped(RouterError):
    """The agent was stopped while a thread waited for events."""

    template = 'the agent was stopped while waiting for {missing}'
