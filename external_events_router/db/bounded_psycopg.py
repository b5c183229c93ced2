"""Connections of psycopg whose waits have a limit on the side of the client.

A server that is suspended keeps its connections: its machine acknowledges all data, so neither
``tcp_user_timeout`` nor keepalives nor the ``statement_timeout`` of the server end the wait.
"""

from __future__ import annotations

from collections.abc import Generator
import time
from typing import Any

import psycopg


class _NoAnswer(Exception):
    """The limit of a wait is over."""


class Connection(psycopg.Connection[Any]):
    """A connection that is closed if the server does not answer a statement in time."""

    _limit: float | None = None

    def set_limit(self, seconds: float) -> None:
        """Set the maximum seconds of each wait for the server."""
        self._limit = seconds

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait as psycopg does, up to the limit.

        :raises psycopg.OperationalError: the server did not answer in time; the connection is closed
        """
        if self._limit is None:
            return super().wait(gen, *args, **kwargs)
        try:
            return super().wait(_until(time.monotonic() + self._limit, gen), *args, **kwargs)
        except _NoAnswer:
            self.pgconn.finish()
            raise psycopg.OperationalError(f'no answer of the server within {self._limit:g} s') from None


def _until(deadline: float, gen: Any) -> Generator[Any, Any, Any]:
    """Pass the states of the socket to a generator of psycopg until the deadline."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            # NOTE: psycopg continues the generator also if nothing has arrived for some time.
            if ready:
                wanted = gen.send(ready)
            elif time.monotonic() > deadline:
                raise _NoAnswer
    except StopIteration as ended:
        return ended.value
