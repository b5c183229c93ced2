"""Run faults one after the other, and make a row with the results of each.

The load continues from the first fault to the last. A row contains the events
that were sent from the beginning of its fault until normal operation: a new
event for every server is immediately answered 200 and has arrived at its hosts, and
every earlier event that was answered 200 has arrived, too.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import random
import re
import threading
import time
import traceback

from tests.faults import catalogue
from tests.faults import ledger
from tests.faults import site as sites

#: Seconds beyond its bound that an answer may take here, where the broker, the
#: database and twenty processes start again on a few cores at the same time.
SLACK = 0.5

#: The code of an event that is lost: no sender posts it again.
UNDELIVERED = 503

#: The parts in which two messages with the same cause differ.
_NUMBERS = re.compile(r'\d+(\.\d+)*')

#: Seconds between two faults of a random run.
GAP = (1.0, 6.0)


@dataclasses.dataclass(slots=True)
class Row:
    """The results of a fault.

    :ivar began: instant of its beginning
    :ivar ended: instant of normal operation
    :ivar lifted: instant at which the damage had been repaired
    :ivar normal: seconds from then until new events were delivered immediately; None: this did not happen
    :ivar held: number of events that the service still holds
    :ivar refused: number of events that were answered 503
    :ivar may_refuse: whether the database was unavailable, so that events could not be held
    :ivar reasons: reason in the log to the number of these events
    :ivar notes: measurements of the fault, as sentences
    :ivar problems: problems that the ledger does not contain, as sentences
    :ivar problem: why the fault could not be produced
    :ivar longest: seconds of the longest answer, without the machine's stalls
    :ivar stalled: seconds of the longest stall during an answer
    """

    name: str
    text: str
    began: float
    ended: float = 0.0
    lifted: float = 0.0
    normal: float | None = None
    held: int | None = None
    problem: str | None = None
    audit: ledger.Audit = dataclasses.field(default_factory=ledger.Audit)
    codes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    refused: int = 0
    may_refuse: bool = False
    reasons: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    longest: float = 0.0
    stalled: float = 0.0

    @property
    def failed(self):
        """Whether an event was lost, or the service did not recover."""
        return (
            self.audit.broken
            or self.normal is None
            or bool(self.held)
            or bool(self.problems)
            or self.problem is not None
            or bool(self.refused and not self.may_refuse)
        )

    def judge(self, answered, audit, reasons):
        """Update the results with all current information.

        :param answered: the answers for all events
        :param audit: the audit of all events
        :param reasons: is called if there are refused events; see ``Site.reasons``
        """
        own = [each for each in answered if self.began <= each.sent < self.ended]
        self.codes = collections.Counter(str(each.code) for each in own)
        self.longest = max((each.took - each.stalled for each in own), default=0.0)
        self.stalled = max((each.stalled for each in own), default=0.0)
        self.audit = audit.of({each.tag for each in own})
        refused = [each.tag for each in own if each.code == UNDELIVERED]
        self.refused = len(refused)
        if refused:
            reason_of = reasons()
            self.reasons = collections.Counter(
                _NUMBERS.sub('N', reason_of.get(tag, 'no reason in the log')) for tag in refused
            )


class Runner:
    """Breaks a site."""

    def __init__(self, site, timing, report):
        """:param report: called with each row when it is done"""
        self._site = site
        self._slow_hosts = timing
        self._report = report
        self.rows = []

    def run(self, *faults):
        """Cause one or several simultaneous faults, and wait for normal operation."""
        names = ' + '.join(fault.name for fault in faults)
        text = ', and '.join(fault.text for fault in faults)
        self._row(names, text, faults, lambda: self._together(faults))

    def run_random(self, faults, *, seed, seconds):
        """Cause faults in a random order, sometimes two at the same time, without waiting between them."""
        rnd = random.Random(seed)
        done = []
        self._row(
            f'random-{seed}',
            f'A random sequence of {seconds / 60:g} min, seed {seed}',
            faults,
            lambda: self._sequence(faults, rnd, seconds, done),
        )
        return done

    def judge(self):
        """Update all rows, because a problem may have appeared later.

        :returns: the tags of events that were handled and never sent
        """
        book = self._site.book
        answered, handled, bound = book.answered(), book.handled(), sites.BOUND + SLACK
        audit = functools.partial(
            ledger.audit, answered, handled, book.places, bound=bound, others=book.begun()
        )
        found = audit()
        if found.lost:
            found = audit(expired=self._site.expired())
        for row in self.rows:
            row.judge(answered, found, self._site.reasons)
        return found.unsent

    def _row(self, name, text, faults, act):
        row = Row(name, text, began=self.rows[-1].ended if self.rows else time.monotonic())
        row.may_refuse = any(fault.breaks_database for fault in faults)
        self._site.notes, self._site.problems = row.notes, row.problems
        try:
            act()
        except Exception:
            row.problem = traceback.format_exc()
        row.lifted = time.monotonic()
        limits = [fault.recovers for fault in faults if fault.recovers is not None]
        until = row.lifted + min([self._site.recovery_limit, *limits])
        row.normal = sites.waited(self._site.is_normal, until=until)
        sites.waited(lambda: not self._site.unfinished(since=row.began), until=until)
        # NOTE: if an answer is late, its sender gets 503 for an event that is held.
        # The event is not missing, but must not stay held either.
        sites.waited(lambda: not self._site.held(), until=until)
        row.ended = time.monotonic()
        row.held = self._site.held()
        self.rows.append(row)
        self.judge()
        self._report(row)

    def _together(self, faults):
        if len(faults) == 1:
            faults[0].act(self._site, self._slow_hosts)
            return
        problems = []

        def act(fault):
            try:
                fault.act(self._site, self._slow_hosts)
            except Exception:
                problems.append(traceback.format_exc())

        threads = [threading.Thread(target=act, args=(fault,), name=fault.name) for fault in faults]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise AssertionError('\n'.join(problems))

    def _sequence(self, faults, rnd, seconds, done):
        until = time.monotonic() + seconds
        never = threading.Event()
        while time.monotonic() < until:
            chosen = draw(faults, rnd)
            done.append(' + '.join(fault.name for fault in chosen))
            self._together(chosen)
            never.wait(rnd.uniform(*GAP))


def draw(faults, rnd):
    """Choose a fault, or with probability 1/3 two faults that affect different parts."""
    first = rnd.choice(faults)
    others = [fault for fault in faults if not fault.affects & first.affects]
    return [first, rnd.choice(others)] if others and rnd.random() < 1 / 3 else [first]


def pairs(names):
    """The pairs of the catalogue in which both faults have one of the names."""
    return [[catalogue.FAULTS[name] for name in pair] for pair in catalogue.PAIRS if set(pair) <= set(names)]
