"""Stopping RPC servers within a time limit.

oslo.messaging sets no limit: a server that is stopped waits until its connection is restored, and until
the replies to its current requests are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
import threading
import time
from typing import Protocol


class Server(Protocol):
    """The used part of ``oslo_messaging.MessageHandlingServer``."""

    def stop(self) -> None:
        """Accept no more requests."""
        ...

    def wait(self) -> None:
        """Wait for the current requests."""
        ...


class ServerStop:
    """Stops servers, each on a separate thread. These threads do not keep the process running."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._threads = [
            threading.Thread(target=_stop, args=(server,), name='stop-rpc-server', daemon=True)
            for server in servers
        ]

    def start(self) -> None:
        """Let the servers accept no more requests. Does not wait."""
        for thread in self._threads:
            thread.start()

    def wait(self, timeout: float) -> bool:
        """Wait until all servers have finished their current requests.

        :param timeout: seconds for all of them together
        :returns: whether all servers have ended
        """
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


def _stop(server: Server) -> None:
    server.stop()
    server.wait()
