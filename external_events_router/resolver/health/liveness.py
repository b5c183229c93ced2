"""Which hosts do not respond, found out for many hosts at once.

A host that is silent until the ack timeout opens its breaker; that alone would cost a
timeout for each host and worker when a rack fails. Three things make it one timeout, or
less:

* A host that has not answered for :data:`LOOK_AFTER` is a reason to ask the broker for
  the consumers of the queues of all hosts that are waited for. Nobody will answer for a
  queue without one. If many have none, the queues of all hosts are looked at.
* If many hosts are silent together, all hosts that were not heard since are suspects: a
  frozen process keeps its consumers. A batch waits for a suspect for
  :data:`SUSPECT_WAIT` only.
* Other workers are told.

To be wrong is cheap: any sign of life closes the breaker, and what was held goes out at
once. A host whose breaker is open for want of a consumer is not tried; its queue is
looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import logging
import threading
import time
from typing import Protocol

from oslo_log import log

from external_events_router import exceptions
from external_events_router import throttled_log
from external_events_router.metrics import recorder
from external_events_router.process import essential
from external_events_router.resolver import answers
from external_events_router.resolver.health import circuit_breaker

LOG = log.getLogger(__name__)

#: Seconds between two looks at what is waited for.
TICK = 0.1

#: Seconds between two reports of the numbers of hosts.
COUNT_PAUSE = 1.0

#: Seconds without an answer after which a host's queue is looked at.
LOOK_AFTER = 0.4

#: Seconds between two looks at the queue of the same host.
LOOK_PAUSE = 2.0

#: Seconds between two looks at the queues that had no consumer, at least; and queues for
#: which a second more is added, so that the broker is asked at a bounded rate.
AGAIN = 2.0
AGAIN_RATE = 1000.0

#: Seconds that one look may take.
LOOK_TIMEOUT = 5.0

#: Hosts, and their part of those concerned, from which on it is more than single hosts
#: that failed.
MANY = 10
MANY_PART = 0.2

#: Seconds within which hosts are silent together.
TOGETHER = 5.0

#: Seconds that a batch waits for a suspect.
SUSPECT_WAIT = 0.25

#: Seconds after the last silent host until nobody is a suspect any more.
SUSPICION = 60.0

#: Seconds: what another worker says of a host is ignored if the host was heard here later.
HEARSAY = 3.0

#: Seconds after which it is forgotten when a host was heard.
FORGET = 3600.0

#: Seconds until it is tried again to look at queues, after that was not possible.
NOT_POSSIBLE = 5.0

#: Why a host is not waited for, beside ``answers.NO_ACK``; also the words of the message.
NO_CONSUMER = 'no consumer on its queue'
SUSPECTED = 'no acknowledgement while many hosts are silent'


class Rounds(Protocol):
    """The deliveries that are waited for; see ``acks.Collector``."""

    def overdue(self, age: float) -> Sequence[str]: ...

    def in_flight(self) -> Sequence[str]: ...

    def fail(self, hosts: Collection[str], reason: str, *, age: float = 0.0) -> None: ...


class Queues(Protocol):
    """The queues of the hosts; for one thread."""

    def consumers(self, hosts: Sequence[str], *, timeout: float) -> Mapping[str, int | None]:
        """The number of consumers for each host whose queue could be looked at; None: it has no queue.

        :param timeout: seconds
        :raises BrokerUnavailable: they cannot be looked at
        """
        ...

    def rest(self) -> None:
        """Called now and then: let go of what was not used for a while."""
        ...


class Signs(Protocol):
    """The part of ``recovery.HostRecovery`` that is used here."""

    def appeared(self, host: str) -> None: ...

    def tell_silent(self, hosts: Collection[str], *, unconsumed: bool) -> None: ...

    def flush_log(self, *, now: bool = False) -> None: ...


class HostLiveness:
    """Finds out which hosts do not respond, and has nobody wait for them. Thread-safe."""

    def __init__(
        self,
        breakers: circuit_breaker.CircuitBreakers,
        observer: Signs,
        *,
        rounds: Rounds | None,
        queues: Queues | None,
        ack_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param signs: is told of hosts that are back, and tells the other workers
        :param rounds: None: what is waited for cannot be failed
        :param queues: None: they cannot be looked at
        :param ack_timeout: seconds that a host has to acknowledge
        """
        self._breakers = breakers
        self._observer = observer
        self._rounds = rounds
        self._queues = queues
        self._ack_timeout = ack_timeout
        self._clock = clock
        # Host to when it was heard last. Not guarded: one step of the interpreter each.
        self._heard: dict[str, float] = {}
        # Guards both below. _silent: host to when it was silent last. _since: hosts that were
        # not heard since this instant are suspects; None: nobody is.
        self._lock = threading.Lock()
        self._silent: dict[str, float] = {}
        self._since: float | None = None
        # The thread's own: host to when its queue was looked at; instants.
        self._looked: dict[str, float] = {}
        self._look_at = 0.0
        self._count_at = 0.0
        self._look_again_at = 0.0
        self._sweep = False
        self._next_forget = 0.0
        self._look_failed = throttled_log.ThrottledLog(LOG)
        self._messages = {
            reason: throttled_log.Summary(
                LOG,
                logging.WARNING,
                one=f'Host %s does not respond: {text}; holding its events until it responds',
                many='%d hosts do not respond, for example %s: '
                f'{text}; holding their events until they respond',
            )
            for reason, text in {
                answers.NO_ACK: f'no acknowledgement within {ack_timeout:g} s',
                NO_CONSUMER: 'no agent consumes from the queue',
                SUSPECTED: f'no acknowledgement within {SUSPECT_WAIT:g} s while many hosts are silent',
                '': 'the delivery failed (DEBUG level shows the reason for each event)',
            }.items()
        }
        self._stopping = threading.Event()
        self._thread = essential.EssentialThread(
            self._run, name='host-liveness', is_stopped=self._stopping.is_set
        )

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, and write the messages that are left."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_TIMEOUT)
        self._flush_log(now=True)

    def heard(self, host: str) -> None:
        """A host gave a sign of life; called for each acknowledgement."""
        self._heard[host] = self._clock()

    def appeared(self, host: str) -> None:
        """A host has started, has reported, or has acknowledged late."""
        self.heard(host)
        self._observer.appeared(host)

    def silent(self, reasons: Mapping[str, str]) -> None:
        """Hosts let deliveries go unanswered.

        :param reasons: host to why it is not known what became of its events
        """
        opened = self._breakers.open(reasons)
        if not opened:
            return
        for reason, message in self._messages.items():
            message.add(
                [
                    host
                    for host in opened
                    if (reasons[host] if reasons[host] in self._messages else '') == reason
                ]
            )
        self._observer.tell_silent(opened, unconsumed=False)
        self._note_silence([host for host in opened if reasons[host] in (answers.NO_ACK, SUSPECTED)])

    def told_silent(self, hosts: Collection[str], *, unconsumed: bool) -> None:
        """Another worker says that hosts do not respond.

        :param unconsumed: nobody consumes from their queues
        """
        after = self._clock() - HEARSAY
        hosts = {host for host in hosts if self._heard.get(host, 0.0) < after}
        # NOTE: who cannot look at queues would never try such a host again.
        self._breakers.open(hosts, unconsumed=unconsumed and self._queues is not None)
        if self._rounds is not None and unconsumed:
            self._rounds.fail(hosts, NO_CONSUMER)

    def look(self) -> None:
        """Look at what is waited for, once; for the thread, and for tests."""
        self._flush_log(now=False)
        self._fail_suspects()
        if self._queues is not None and self._rounds is not None:
            self._look_at_queues(self._queues, self._rounds)
        if self._clock() >= self._next_forget:
            self._forget()

    def _run(self) -> None:
        while not self._stopping.wait(TICK):
            try:
                self.look()
                self._count()
            except Exception:  # the outermost loop of this thread
                LOG.exception('Looking for hosts that do not respond failed')
                self._stopping.wait(1.0)

    def _count(self) -> None:
        """Report the numbers of hosts to be counted, once in a second."""
        now, counting = self._clock(), recorder.current()
        if counting.is_counting and now >= self._count_at:
            self._count_at = now + COUNT_PAUSE
            is_open = self._breakers.hosts()
            known = self._heard.keys() | set(is_open)
            counting.hosts_counted(open_breakers=len(is_open), known=len(known))

    def _note_silence(self, hosts: Collection[str]) -> None:
        """See whether so many hosts are silent together that the others are suspects."""
        now = self._clock()
        with self._lock:
            self._silent.update(dict.fromkeys(hosts, now))
            recent = sum(at > now - TOGETHER for at in self._silent.values())
            if recent < MANY:
                return
            began = now - TOGETHER - self._ack_timeout
            responding = sum(
                at > began and self._silent.get(host, 0.0) < at for host, at in list(self._heard.items())
            )
            if self._since is not None or recent < MANY_PART * (recent + responding):
                return
            self._since = since = now - self._ack_timeout
        if self._rounds is None:
            # NOTE: then nobody can be made to wait for a suspect a shorter time.
            suspects = [host for host, at in list(self._heard.items()) if at < since]
            self._messages[SUSPECTED].add(self._breakers.open(suspects))

    def _fail_suspects(self) -> None:
        """Have nobody wait for suspects any longer than a moment."""
        with self._lock:
            if self._since is None:
                return
            now = self._clock()
            if max(self._silent.values(), default=0.0) < now - SUSPICION:
                self._since = None
                return
            since = self._since
        if self._rounds is None:
            return
        suspects = {host for host in self._rounds.overdue(SUSPECT_WAIT) if self._heard.get(host, 0.0) < since}
        if suspects:
            self._rounds.fail(suspects, SUSPECTED, age=SUSPECT_WAIT)

    def _look_at_queues(self, queues: Queues, rounds: Rounds) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        hosts = self._to_look_at(rounds, now)
        again = self._breakers.unconsumed() if now >= self._look_again_at else []
        if not hosts and not again:
            queues.rest()
            return
        try:
            counts = queues.consumers([*hosts, *again], timeout=LOOK_TIMEOUT)
        except exceptions.BrokerUnavailable as exc:
            self._cannot_look(exc)
            return
        self._look_failed.over('The queues of hosts can be looked at again')
        self._looked.update(dict.fromkeys(hosts, self._clock()))
        if again:
            self._look_again_at = self._clock() + AGAIN + len(again) / AGAIN_RATE
        # NOTE: who was heard meanwhile is there, whatever was seen before.
        dead = {host for host in hosts if counts.get(host) == 0 and self._heard.get(host, 0.0) < now}
        self._fail_unconsumed(rounds, dead, looked_at=len(hosts))
        for host in again:
            if counts.get(host):
                self._observer.appeared(host)
        self._breakers.allow_trials(host for host in again if host in counts and counts[host] is None)

    def _to_look_at(self, rounds: Rounds, now: float) -> list[str]:
        """Hosts whose queues have to be looked at now."""
        if self._sweep:
            self._sweep = False
            wanted: Collection[str] = list(self._heard)
        elif any(self._looked.get(host, 0.0) < now - LOOK_PAUSE for host in rounds.overdue(LOOK_AFTER)):
            wanted = rounds.in_flight()
        else:
            return []
        unconsumed = set(self._breakers.unconsumed())
        return [
            host
            for host in wanted
            if host not in unconsumed and self._looked.get(host, 0.0) < now - LOOK_PAUSE
        ]

    def _fail_unconsumed(self, rounds: Rounds, dead: Collection[str], *, looked_at: int) -> None:
        """Nobody consumes from the queues of these hosts, out of so many."""
        if not dead:
            return
        opened = self._breakers.open(dead, unconsumed=True)
        rounds.fail(dead, NO_CONSUMER)
        self._look_again_at = max(self._look_again_at, self._clock() + AGAIN)
        self._messages[NO_CONSUMER].add(opened)
        self._observer.tell_silent(dead, unconsumed=True)
        if len(dead) >= MANY and len(dead) >= MANY_PART * looked_at:
            self._sweep = True

    def _cannot_look(self, exc: exceptions.BrokerUnavailable) -> None:
        self._look_failed.occurred(
            logging.INFO, 'The queues of hosts cannot be looked at, which delays nothing else: %s', exc
        )
        self._breakers.allow_trials(self._breakers.unconsumed())
        self._look_at = self._clock() + NOT_POSSIBLE

    def _forget(self) -> None:
        now = self._clock()
        self._next_forget = now + SUSPICION
        for table, seconds in ((self._heard, FORGET), (self._looked, SUSPICION)):
            for host, at in list(table.items()):
                if at < now - seconds:
                    table.pop(host, None)
        with self._lock:
            self._silent = {host: at for host, at in self._silent.items() if at > now - SUSPICION}

    def _flush_log(self, *, now: bool) -> None:
        for message in self._messages.values():
            message.flush(now=now)
        self._observer.flush_log(now=now)
