"""Runs checks in parallel, each within its time limit."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import logging
import queue
import threading
import time

from external_events_router import exceptions
from external_events_router.doctor import base

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The result of one check.

    :ivar name: of the check
    """

    name: str
    result: base.Result


def run(checks: Sequence[base.Check], site: base.Site) -> list[Report]:
    """Run checks.

    Checks that need no other check run first, all at the same time. A check that needs a failed check
    is not run.

    :returns: a report for each check, in the order of the checks
    """
    results: dict[str, base.Result] = {}
    waiting = list(checks)
    while waiting:
        names = {check.name for check in waiting}
        ready = [check for check in waiting if not names & set(check.needs)] or waiting
        runnable = []
        for check in ready:
            blocked = _blocked(check, results)
            if blocked is None:
                runnable.append(check)
            else:
                results[check.name] = blocked
        results |= dict(_run_together(runnable, site))
        waiting = [check for check in waiting if check.name not in results]
    return [Report(check.name, results[check.name]) for check in checks]


def worst(reports: Collection[Report]) -> base.Status:
    """Return the worst status of some reports."""
    return max((report.result.status for report in reports), default=base.Status.OK)


def _blocked(check: base.Check, results: Mapping[str, base.Result]) -> base.Result | None:
    for name in check.needs:
        needed = results.get(name)
        if needed is not None and needed.status is base.Status.FAIL:
            return base.warn(f'not checked, because the check {name} fails', f'repair {name} first')
    return None


def _run_together(checks: Sequence[base.Check], site: base.Site) -> Iterator[tuple[str, base.Result]]:
    """Yield the name of each check and its result."""
    began = time.monotonic()
    waiting = []
    for check in checks:
        # NOTE: a separate queue: nothing reads the result of a check that ends too late.
        answers: queue.SimpleQueue[base.Result] = queue.SimpleQueue()
        threading.Thread(
            target=_run_one, args=(check, site, answers), name=f'doctor-{check.name}', daemon=True
        ).start()
        waiting.append((check, answers))
    for check, answers in waiting:
        try:
            yield check.name, answers.get(timeout=max(0.0, began + check.timeout - time.monotonic()))
        except queue.Empty:
            yield (
                check.name,
                base.fail(
                    f'no result within {check.timeout:g} s', 'find out why the system does not respond'
                ),
            )


def _run_one(check: base.Check, site: base.Site, answers: queue.SimpleQueue[base.Result]) -> None:
    try:
        answers.put(check.run(site))
    except exceptions.RouterError as exc:
        answers.put(base.fail(' '.join(str(exc).split()), 'see the evidence'))
    except Exception as exc:  # of this check alone
        LOG.debug('The check %s has failed', check.name, exc_info=True)
        answers.put(
            base.fail(
                f'the check ended with {type(exc).__name__}: {" ".join(str(exc).split())[:200]}',
                'run the command again with --debug, and report this as a bug',
            )
        )
