"""A thread that drives any number of connections, and never blocks.

It waits for all sockets together, reads what has arrived, and lets each connection write. Everything that
blocks, such as a login, happens on another thread. Other threads leave work with a handler or with
:meth:`Loop.run_soon`, and wake the loop. What arrives while the loop is busy is done in its next iteration.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
import logging
import os
import select
import threading
import time
from typing import Protocol

from external_events_router.process import essential

LOG = logging.getLogger(__name__)

#: Seconds after which the loop looks at all connections although nothing happened.
INTERVAL = 0.5

#: Seconds after which an iteration that has not ended means that the thread hangs. No iteration waits.
LONGEST_ITERATION = 30.0


class Member(Protocol):
    """A connection, as the loop sees it. Called on the thread of the loop only; no call raises."""

    def descriptor(self) -> int | None:
        """Return the file descriptor to wait for, or None while the member is not connected."""
        ...

    def wants_to_write(self) -> bool:
        """Return whether data wait until the socket takes more."""
        ...

    def on_events(self, events: int) -> None:
        """Read and write; ``events`` as of ``select.poll``."""
        ...

    def on_interval(self, now: float) -> bool:
        """Do what is due, once in each iteration.

        :param now: instant of ``time.monotonic()``
        :returns: whether the member stays
        """
        ...


class Loop:
    """The thread. It starts with its first member, and ends with the last."""

    def __init__(self, *, name: str) -> None:
        """:param name: the name of the thread"""
        self._name = name
        self._wakes = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Not guarded: one step of the interpreter each. _asleep: the thread waits, or is about to;
        # _woken: there may be work that the thread has not seen; _iterated_at: the last iteration.
        self._asleep = False
        self._woken = False
        self._iterated_at = time.monotonic()
        self._soon: collections.deque[Callable[[], None]] = collections.deque()
        # Guards _new: members that the thread has not seen yet; and _running.
        self._lock = threading.Lock()
        self._new: list[Member] = []
        self._running = False
        # The thread's own: each member and the descriptor and events that it is registered with.
        self._poll = select.poll()
        self._members: dict[Member, tuple[int, int] | None] = {}
        self._by_descriptor: dict[int, Member] = {}

    def add(self, member: Member) -> None:
        """Drive a connection, from now on until it leaves."""
        with self._lock:
            self._new.append(member)
            start, self._running = not self._running, True
            if start:
                self._iterated_at = time.monotonic()
        if start:
            essential.EssentialThread(
                self._run, name=self._name, is_stopped=lambda: not self._running
            ).start()
        self.wake()

    def wake(self) -> None:
        """Run an iteration, which processes all work that handlers received before this call."""
        self._woken = True
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._wakes, 1)

    def hangs(self) -> bool:
        """Return whether the thread hangs: no iteration has ended for :data:`LONGEST_ITERATION` seconds."""
        return self._running and time.monotonic() - self._iterated_at > LONGEST_ITERATION

    def run_soon(self, callback: Callable[[], None]) -> None:
        """Call a function on the thread, in its next iteration, before the members write. It must not block.

        If the thread does not run, the function is called at once.
        """
        self._soon.append(callback)
        if self._running:
            self.wake()
        else:
            self._call_soon()

    def _run(self) -> None:
        self._poll = select.poll()
        self._poll.register(self._wakes, select.POLLIN)
        while self._is_needed():
            self._asleep = True
            ready = self._poll.poll(0 if self._woken else INTERVAL * 1000)
            self._asleep = False
            for descriptor, events in ready:
                if descriptor == self._wakes:
                    os.eventfd_read(self._wakes)
                elif (member := self._by_descriptor.get(descriptor)) is not None:
                    member.on_events(events)
            self._call_soon()
            # NOTE: only now, because this iteration processes all work that handlers have received so far.
            # What another thread adds to these two lists meanwhile needs one more iteration.
            self._woken = False
            if self._soon or self._new:
                self._woken = True
            self._run_intervals()
            self._iterated_at = time.monotonic()
        self._call_soon()

    def _is_needed(self) -> bool:
        with self._lock:
            for member in self._new:
                self._members[member] = None
            self._new.clear()
            self._running = bool(self._members)
            return self._running

    def _run_intervals(self) -> None:
        now = time.monotonic()
        for member in list(self._members):
            stays = member.on_interval(now)
            self._register(member)
            if not stays:
                del self._members[member]

    def _register(self, member: Member) -> None:
        descriptor = member.descriptor()
        wanted = None
        if descriptor is not None:
            wanted = (descriptor, select.POLLIN | (select.POLLOUT if member.wants_to_write() else 0))
        known = self._members[member]
        if wanted == known:
            return
        # NOTE: a descriptor that was closed may belong to another member already.
        if known is not None and self._by_descriptor.get(known[0]) is member:
            del self._by_descriptor[known[0]]
            self._poll.unregister(known[0])
        if wanted is not None:
            self._poll.register(*wanted)
            self._by_descriptor[wanted[0]] = member
        self._members[member] = wanted

    def _call_soon(self) -> None:
        while self._soon:
            try:
                self._soon.popleft()()
            except IndexError:
                # NOTE: at the end of the thread, another one may have been faster.
                return
            except Exception:  # one callback must not end the thread
                LOG.exception('%s: unexpected error', self._name)
