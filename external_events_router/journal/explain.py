"""The answer to "what happened to the events of this server?", as data.

It prints nothing: a command prints the answer, and an API can return :func:`document`.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from external_events_router.journal import next_steps
from external_events_router.journal import records
from external_events_router.journal import timeline
from external_events_router.journal import verdicts


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """The answer.

    :ivar entries: in the order of their times
    :ivar origin: the start of the wait, to which times are relative, microseconds since the epoch;
        None: no start is known, and times are relative to the first entry other than a gap
    """

    history: timeline.History
    entries: tuple[timeline.Entry, ...]
    origin: int | None
    finding: verdicts.Finding

    @property
    def zero(self) -> int:
        """The time to which times are relative."""
        if self.origin is not None:
            return self.origin
        first = [entry.at for entry in self.entries if entry.kind is not timeline.Kind.GAP]
        return min(first, default=self.history.since)


def explain(history: timeline.History, site: next_steps.Site) -> Explanation:
    """Return the answer that some records give.

    :param site: what runs on the hosts
    """
    return Explanation(
        history=history,
        entries=tuple(timeline.build(history)),
        origin=timeline.origin(history),
        finding=verdicts.judge(history, site),
    )


def document(explanation: Explanation) -> dict[str, Any]:
    """Return the answer for JSON and YAML; times are ISO 8601 in UTC."""
    history, finding = explanation.history, explanation.finding
    return {
        'server': history.server_uuid,
        'port': history.port,
        'name': history.name,
        'since': timeline.utc(history.since),
        'until': timeline.utc(history.until),
        'relative_to': 'start of the wait' if explanation.origin is not None else 'first entry',
        'timeline': [_entry(entry, explanation.zero) for entry in explanation.entries],
        'verdict': str(finding.verdict),
        'sentence': finding.sentence,
        'event': finding.event_id,
        'next_step': _step(finding.next_step),
        'complete': not history.gaps and finding.verdict is not verdicts.Verdict.INCOMPLETE_RECORD,
        'warnings': list(history.warnings),
        'exit_status': finding.exit_status,
    }


def relative(at: int, zero: int) -> float:
    """Return the seconds between two times, to the millisecond."""
    return round((at - zero) / records.SECOND, 3)


def _entry(entry: timeline.Entry, zero: int) -> Mapping[str, Any]:
    return {
        'time': timeline.utc(entry.at),
        'relative': relative(entry.at, zero),
        'kind': str(entry.kind),
        'what': entry.what,
        'host': entry.host,
        'text': entry.text,
        'event': entry.event_id,
    }


def _step(step: next_steps.NextStep) -> Mapping[str, Any]:
    return {
        'text': step.text,
        'command': step.command,
        'search': step.search,
        'log': step.log,
        'host': step.host,
    }
