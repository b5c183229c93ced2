"""Waiting for the answers of hosts to messages that were sent together.

The drivers fill a round. This module sends nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import threading
import time

from external_events_router import events
from external_events_router import exceptions
from external_events_router.concurrency import signal
from external_events_router.resolver import answers


class AckRound:
    """The answers of one round, which are awaited together. Thread-safe.

    :ivar began: instant of ``time.monotonic()``
    :ivar abandoned: missing answers cannot arrive, so the round does not wait
    """

    def __init__(self, keys: Iterable[answers.Key], *, settled: signal.Signal | None = None) -> None:
        """:param keys: the expected answers
        :param settled: set when no answer is missing
        """
        self.began = time.monotonic()
        self.abandoned = False
        self._settled = settled or signal.Signal()
        # Guards _missing, _answers, and _failed: hosts whose answers will not arrive.
        self._lock = threading.Lock()
        self._missing = set(keys)
        self._answers: answers.Answers = {}
        self._failed: frozenset[str] = frozenset()
        self._closed = False
        if not self._missing:
            self._settled.set()

    def answer(self, key: answers.Key, answer: answers.Answer) -> None:
        """Record the answer of a host to an event; a second answer is ignored."""
        self._settle({key: answer})

    def acknowledge(self, host: str, results: Iterable[events.Result]) -> bool:
        """Record the results of a host; a second result for the same event is ignored.

        :returns: False: the round is closed
        """
        received: answers.Answers = {}
        now = time.monotonic()
        for result in results:
            answer = answers.Answer(result.verdict, result.reason, at=now, handling=result.handling)
            received.setdefault((host, result.event_id), answer)
        return self._settle(received)

    def fail(self, host: str, reason: str, *, asked: bool = True) -> None:
        """End the wait for a host.

        :param asked: False if the broker did not accept the message, see ``answers.Answer``
        """
        self.fail_hosts({host}, reason, asked=asked)

    def fail_hosts(self, hosts: Collection[str], reason: str, *, asked: bool = True) -> None:
        """End the wait for some hosts; see :meth:`fail`."""
        with self._lock:
            failed = [key for key in self._missing if key[0] in hosts]
            self._failed |= {host for host, _event_id in failed}
        self._settle(dict.fromkeys(failed, answers.Answer(None, reason, asked)))

    def cast_failed(self, host: str, error: exceptions.RouterError) -> None:
        """End the wait for a host, because the cast to it failed."""
        not_sent = (exceptions.BrokerUnavailable, exceptions.Unsendable)
        self.fail(host, str(error), asked=not isinstance(error, not_sent))

    def abandon(self, reason: str) -> None:
        """End the wait for all hosts, because missing answers cannot arrive."""
        self.abandoned = True
        with self._lock:
            failed = list(self._missing)
            self._failed |= {host for host, _event_id in failed}
        self._settle(dict.fromkeys(failed, answers.Answer(None, reason, asked=False)))

    def misses(self, host: str) -> bool:
        """Return whether a host has not answered everything yet."""
        with self._lock:
            return any(key[0] == host for key in self._missing)

    def wait(self, deadline: float) -> answers.Answers:
        """Return when every host has answered for every event, or at the deadline.

        :param deadline: instant of ``time.monotonic()``
        :returns: an answer for every key; a missing one has no verdict
        """
        self.wait_until(deadline)
        with self._lock:
            return self._all()

    def wait_until(self, deadline: float) -> None:
        """Return when no answer is missing any longer, or at the deadline.

        :param deadline: instant of ``time.monotonic()``
        """
        self._settled.wait_until(deadline)

    def close(self) -> answers.Answers:
        """Take no more answers, and return them as :meth:`wait` does."""
        with self._lock:
            self._closed = True
            return self._all()

    def _all(self) -> answers.Answers:
        return {**self._answers, **dict.fromkeys(self._missing, answers.Answer(None, answers.NO_ACK))}

    def silent(self) -> frozenset[str]:
        """Return the hosts that have not answered all of their events."""
        with self._lock:
            if not self._failed and not self._missing:
                return frozenset()
            return self._failed.union(host for host, _event_id in self._missing)

    def _settle(self, received: answers.Answers) -> bool:
        """Record answers.

        :returns: False: the round is closed
        """
        with self._lock:
            if self._closed:
                return False
            waited = bool(self._missing)
            for key, answer in received.items():
                if key in self._missing:
                    self._missing.remove(key)
                    self._answers[key] = answer
            if waited and not self._missing:
                self._settled.set()
        return True
