"""Detects hosts that do not respond, for many hosts at the same time.

A host that does not acknowledge within the ack timeout opens its breaker. When a rack fails, this alone
would cost each worker a timeout for each host. Three methods reduce this to one timeout or less:

* If a host has not answered for :data:`LOOK_AFTER`, the broker is asked for the number of consumers of
  the queues of all hosts for which batches wait. A queue without a consumer will not be answered. If
  many queues have no consumer, the queues of all hosts are checked.
* If many hosts are silent at the same time, all hosts that have not responded since then are suspects,
  because a frozen process keeps its consumers. A batch waits for a suspect only
  :data:`SUSPECT_WAIT`.
* The other workers are informed.

A wrong decision has a small effect: any message from the host closes the breaker, and held events are
delivered immediately. A host whose breaker is open because its queue has no consumer is not tried; its
queue is checked again.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
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
from external_events_router.resolver.drivers import base
from external_events_router.resolver.health import circuit_breaker

LOG = log.getLogger(__name__)

#: Seconds between two checks of the deliveries in flight.
TICK = 0.1

#: Seconds between two reports of the numbers of hosts.
COUNT_PAUSE = 1.0

#: Seconds without an answer after which the queue of a host is checked.
LOOK_AFTER = 0.4

#: Minimum seconds between two checks of the queue of the same host.
LOOK_PAUSE = 2.0

#: Minimum seconds between two checks of the queues that had no consumer, and number of queues for
#: which one more second is added, so that the broker is asked at a limited rate.
AGAIN = 2.0
AGAIN_RATE = 1000.0

#: Maximum seconds of one check.
LOOK_TIMEOUT = 5.0

#: Number of failed hosts, and their part of the checked hosts, above which more than single hosts
#: have failed.
MANY = 10
MANY_PART = 0.2

#: Seconds within which silent hosts are counted together.
TOGETHER = 5.0

#: Seconds that a batch waits for a suspect.
SUSPECT_WAIT = 0.25

#: Seconds after the last silent host until no host is a suspect any longer.
SUSPICION = 60.0

#: Seconds: a message of another worker about a host is ignored if the host responded later than this.
PEER_MESSAGE_AGE = 3.0

#: Seconds for which the last response of a host is remembered.
FORGET = 3600.0

#: Seconds until the next attempt to check queues, after an attempt has failed.
NOT_POSSIBLE = 5.0

#: Reasons why batches do not wait for a host, in addition to ``answers.NO_ACK``; also used in the log.
NO_CONSUMER = 'no consumer on its queue'
SUSPECTED = 'no acknowledgement while many hosts are silent'


class Signs(Protocol):
    """The used part of ``recovery.HostRecovery``."""

    def appeared(self, host: str) -> None: ...

    def announce_silent(self, hosts: Collection[str], *, unconsumed: bool) -> None: ...

    def flush_log(self, *, now: bool = False) -> None: ...


class HostLiveness:
    """Detects hosts that do not respond, and stops batches from waiting for them. Thread-safe."""

    def __init__(
        self,
        breakers: circuit_breaker.CircuitBreakers,
        observer: Signs,
        *,
        rounds: base.Rounds | None,
        queues: base.Queues | None,
        ack_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param observer: informed of hosts that respond again; informs the other workers
        :param rounds: None: the waits of deliveries in flight cannot be ended
        :param queues: None: queues cannot be checked
        :param ack_timeout: seconds that a host has to acknowledge
        """
        self._breakers = breakers
        self._observer = observer
        self._rounds = rounds
        self._queues = queues
        self._ack_timeout = ack_timeout
        self._clock = clock
        # Host to the time of its last response. Not guarded: each use is one step of the interpreter.
        self._responded_at: dict[str, float] = {}
        # Guards both attributes below. _silent: host to the time when it was silent last. _since: hosts
        # without a response since this instant are suspects; None: there are no suspects.
        self._lock = threading.Lock()
        self._silent: dict[str, float] = {}
        self._since: float | None = None
        # Used only by the thread: host to the instant at which its queue was checked.
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
        """Start to check hosts."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and write the remaining log messages."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_TIMEOUT)
        if self._queues is not None:
            self._queues.close()
        self._flush_log(now=True)

    def responded(self, host: str) -> None:
        """Record a response of a host; called for each acknowledgement."""
        self._responded_at[host] = self._clock()

    def appeared(self, host: str) -> None:
        """Handle a host that has started, has reported, or has acknowledged late."""
        self.responded(host)
        self._observer.appeared(host)

    def silent(self, reasons: Mapping[str, str]) -> None:
        """Handle hosts that have not acknowledged deliveries in time.

        :param reasons: host to the reason why the result of its events is unknown
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
        self._observer.announce_silent(opened, unconsumed=False)
        self._note_silence([host for host in opened if reasons[host] in (answers.NO_ACK, SUSPECTED)])

    def silence_announced(self, hosts: Collection[str], *, unconsumed: bool) -> None:
        """Handle a message of another worker that hosts do not respond.

        :param unconsumed: their queues have no consumer
        """
        after = self._clock() - PEER_MESSAGE_AGE
        hosts = {host for host in hosts if self._responded_at.get(host, 0.0) < after}
        # NOTE: a worker that cannot check queues would never try such a host again.
        self._breakers.open(hosts, unconsumed=unconsumed and self._queues is not None)
        if self._rounds is not None and unconsumed:
            self._rounds.fail(hosts, NO_CONSUMER)

    def look(self) -> None:
        """Check the deliveries in flight once; called by the thread, and by tests."""
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
                LOG.exception('Could not check for hosts that do not respond; trying again')
                self._stopping.wait(1.0)

    def _count(self) -> None:
        """Report the numbers of hosts to be counted, once in a second."""
        now, counting = self._clock(), recorder.current()
        if counting.is_counting and now >= self._count_at:
            self._count_at = now + COUNT_PAUSE
            is_open = self._breakers.hosts()
            known = self._responded_at.keys() | set(is_open)
            counting.hosts_counted(open_breakers=len(is_open), known=len(known))

    def _note_silence(self, hosts: Collection[str]) -> None:
        """Decide whether so many hosts are silent together that the other silent hosts are suspects."""
        now = self._clock()
        with self._lock:
            self._silent.update(dict.fromkeys(hosts, now))
            recent = sum(at > now - TOGETHER for at in self._silent.values())
            if recent < MANY:
                return
            began = now - TOGETHER - self._ack_timeout
            responding = sum(
                at > began and self._silent.get(host, 0.0) < at
                for host, at in list(self._responded_at.items())
            )
            if self._since is not None or recent < MANY_PART * (recent + responding):
                return
            self._since = since = now - self._ack_timeout
        if self._rounds is None:
            # NOTE: in this case the wait for a suspect cannot be shortened.
            suspects = [host for host, at in list(self._responded_at.items()) if at < since]
            self._messages[SUSPECTED].add(self._breakers.open(suspects))

    def _fail_suspects(self) -> None:
        """End the waits for suspects after :data:`SUSPECT_WAIT`."""
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
        suspects = {
            host for host in self._rounds.overdue(SUSPECT_WAIT) if self._responded_at.get(host, 0.0) < since
        }
        if suspects:
            self._rounds.fail(suspects, SUSPECTED, age=SUSPECT_WAIT)

    def _look_at_queues(self, queues: base.Queues, rounds: base.Rounds) -> None:
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
        self._look_failed.over('The queues of hosts can be checked again')
        self._looked.update(dict.fromkeys(hosts, self._clock()))
        if again:
            self._look_again_at = self._clock() + AGAIN + len(again) / AGAIN_RATE
        # NOTE: a host that responded during the check works, independent of the result of the check.
        dead = {host for host in hosts if counts.get(host) == 0 and self._responded_at.get(host, 0.0) < now}
        self._fail_unconsumed(rounds, dead, looked_at=len(hosts))
        for host in again:
            if counts.get(host):
                self._observer.appeared(host)
        self._breakers.allow_trials(host for host in again if host in counts and counts[host] is None)

    def _to_look_at(self, rounds: base.Rounds, now: float) -> list[str]:
        """Return the hosts whose queues have to be checked now."""
        if self._sweep:
            self._sweep = False
            wanted: Collection[str] = list(self._responded_at)
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

    def _fail_unconsumed(self, rounds: base.Rounds, dead: Collection[str], *, looked_at: int) -> None:
        """Handle the hosts whose queues have no consumers, out of all checked hosts."""
        if not dead:
            return
        opened = self._breakers.open(dead, unconsumed=True)
        rounds.fail(dead, NO_CONSUMER)
        self._look_again_at = max(self._look_again_at, self._clock() + AGAIN)
        self._messages[NO_CONSUMER].add(opened)
        self._observer.announce_silent(dead, unconsumed=True)
        if len(dead) >= MANY and len(dead) >= MANY_PART * looked_at:
            self._sweep = True

    def _cannot_look(self, exc: exceptions.BrokerUnavailable) -> None:
        self._look_failed.occurred(
            logging.INFO, 'Could not check the queues of hosts: %s; events are delivered nevertheless', exc
        )
        self._breakers.allow_trials(self._breakers.unconsumed())
        self._look_at = self._clock() + NOT_POSSIBLE

    def _forget(self) -> None:
        now = self._clock()
        self._next_forget = now + SUSPICION
        for table, seconds in ((self._responded_at, FORGET), (self._looked, SUSPICION)):
            for host, at in list(table.items()):
                if at < now - seconds:
                    table.pop(host, None)
        with self._lock:
            self._silent = {host: at for host, at in self._silent.items() if at > now - SUSPICION}

    def _flush_log(self, *, now: bool) -> None:
        for message in self._messages.values():
            message.flush(now=now)
        self._observer.flush_log(now=now)
