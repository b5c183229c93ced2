"""Every error that the service raises itself.

A leaf: the standard library and ``checks`` only. Errors of other libraries are turned into
these at the border where they occur (``rpcapi`` for messaging, ``db`` and the
host maps for the database), with ``from``. Per-event results are data
(:class:`external_events_router.events.Outcome`), never errors: an error here
means that something as a whole could not be done.
"""

from __future__ import annotations

from typing import Any

from external_events_router import checks


class RouterError(Exception):
    """The base of all: a template, filled with keywords that stay readable.

    May cross RPC: a receiver rebuilds it as ``cls(message, **kwargs)``.
    """

    template = 'An unknown error occurred.'

    def __init__(self, message: str | None = None, /, **kwargs: Any) -> None:
        self.kwargs = kwargs
        super().__init__(message if message is not None else self.template.format(**kwargs))


class ConfigurationError(RouterError):
    """A value in the configuration cannot be used; the service does not start."""

    template = '{option}: {reason}'


class MalformedMessage(RouterError):
    """A message on the wire, or a line of a file, is not of the agreed form."""

    template = 'malformed {what}: {value}'

    def __init__(self, message: str | None = None, /, **kwargs: Any) -> None:
        # NOTE: cut here, because the value is of any size, and goes to logs and over RPC. A
        # caller that rebuilds the error has the message already, and the text as the value.
        if message is None and 'value' in kwargs:
            kwargs['value'] = checks.shown(kwargs['value'])
        super().__init__(message, **kwargs)


class BrokerUnavailable(RouterError):
    """The message could not be given to the broker in the time there was."""

    template = 'the message broker did not take the message: {reason}'


class HostUnreachable(RouterError):
    """The broker has no queue for the host: no agent listens there."""

    template = 'no agent listens for host {host}'


class Unsendable(RouterError):
    """The message cannot be encoded: nobody can ever send it."""

    template = 'the message cannot be sent: {reason}'


class InvalidHost(RouterError):
    """A host cannot be sent anything, because its name is none that a queue can have."""

    template = (
        'nothing can be sent to host {host}: its name is too long or has characters that are not '
        'allowed; assign the server to another name and unassign this one'
    )

    def __init__(self, message: str | None = None, /, **kwargs: Any) -> None:
        if message is None:
            kwargs['host'] = checks.shown(kwargs['host'])
        super().__init__(message, **kwargs)


class NoReply(RouterError):
    """A host did not reply in the time there was; what became of the events is not known."""

    template = 'host {host} did not reply: {reason}'


class HostFailed(RouterError):
    """A host replied with an error of its own."""

    template = 'host {host} failed with {error}'


class ResolverUnavailable(RouterError):
    """No resolver answered in the time there was; what became of the events is not known."""

    template = 'no resolver answered: {reason}'


class DatabaseUnavailable(RouterError):
    """The database could not be asked, or did not answer in time."""

    template = 'the database did not answer: {reason}'


class DatabaseRefused(DatabaseUnavailable):
    """The database answered, but does not take this statement or its values."""

    template = 'the database refused the statement: {reason}'


class NoSuchServer(RouterError):
    """The host map does not know the server."""

    template = 'no server {server_uuid} in the host map'


class NoSuchEvent(RouterError):
    """The hold has no such event, neither held nor ended."""

    template = 'no event {event_id} in the hold'


class ReadOnlyHostMap(RouterError):
    """The host map in use is written by somebody else."""

    template = 'this host map cannot be written: {reason}'


class BadLine(RouterError):
    """A line of a host map file cannot be used; nothing of the file was."""

    template = 'line {number}: {reason}'


class NotHere(RouterError):
    """Raised by a handler: the server is not on this host."""

    template = 'server {server_uuid} is not on this host'


class Refused(RouterError):
    """Raised by a handler: the event will never be handled here, do not send it again."""

    template = 'refused: {reason}'


class WaitTimeout(RouterError):
    """Events that were waited for did not come in time."""

    template = 'waited {timeout} s for {missing}'


class AgentStopped(RouterError):
    """The agent was stopped while something waited for events."""

    template = 'the agent was stopped while waiting for {missing}'
