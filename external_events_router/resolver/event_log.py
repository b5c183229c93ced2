"""One log line for each event that a host did not simply acknowledge in time.

An operator finds a server, a port, a host or a request by searching the log. The lines have one
form; their number in a minute is limited, because a rack that fails concerns thousands of events.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import logging
from typing import Any

from oslo_log import log

from external_events_router import context
from external_events_router import events
from external_events_router import throttled_log
from external_events_router.resolver import answers as host_answers

LOG = log.getLogger(__name__)

#: Lines of a worker in a minute.
LINES = 1000

#: How the reason of an outcome with code 200 begins if the event is held.
HELD = 'held: '

_FORM = 'Event %s: %s of server %s, tag %a, host %s, request %s, sender request %s, event %s: %a'


class EventLog:
    """Writes the lines of one worker. Thread-safe."""

    def __init__(self, *, lines: int = LINES) -> None:
        """:param lines: maximum number of lines in a minute; further lines are counted"""
        self._lines = throttled_log.Bounded(
            LOG,
            lines=lines,
            rest='%d more events were held, delivered late, or not delivered; '
            '"external-events-manage events list" shows them',
        )

    def batch(
        self,
        ctxt: context.RequestContext,
        outcomes: Iterable[events.Outcome],
        answers: Mapping[host_answers.Key, host_answers.Answer],
    ) -> None:
        """Write a line for each event of a batch that was held or has another code than 200.

        :param answers: the answers of the hosts
        """
        logged = [
            outcome
            for outcome in outcomes
            if outcome.code is not events.Code.DELIVERED or outcome.reason is not None
        ]
        if not logged:
            return
        missing_hosts: dict[str, list[str]] = {}
        for (host, event_id), answer in answers.items():
            if answer.verdict is not events.Verdict.HANDLED:
                missing_hosts.setdefault(event_id, []).append(host)
        for outcome in logged:
            delivered = outcome.code is events.Code.DELIVERED
            missing = missing_hosts.get(outcome.event.id, [])
            self._write(
                logging.INFO,
                'held' if delivered else f'answered {outcome.code:d}',
                outcome.event,
                (ctxt.request_id, ctxt.global_request_id),
                hosts=missing,
                reason=(outcome.reason or '').removeprefix(HELD),
            )

    def late(
        self, event: events.Event, kept: Mapping[str, Any], *, hosts: Iterable[str], attempt: int, age: float
    ) -> None:
        """Write that a held event was delivered.

        :param kept: the context of its request
        :param attempt: number of the attempt
        :param age: seconds since it was held
        """
        ids = kept.get('request_id'), kept.get('global_request_id')
        reason = f'held for {age:.1f} s, attempt {attempt}'
        self._write(logging.INFO, 'delivered late', event, ids, hosts=sorted(hosts), reason=reason)

    def ended(
        self, event: events.Event, kept: Mapping[str, Any], *, state: str, hosts: Iterable[str], reason: str
    ) -> None:
        """Write that an event, which was answered 200, ended without an acknowledgement.

        :param kept: the context of its request
        :param state: see ``hold.base.State``
        """
        ids = kept.get('request_id'), kept.get('global_request_id')
        self._write(
            logging.WARNING, f'answered 200 and {state}', event, ids, hosts=sorted(hosts), reason=reason
        )

    def flush(self, *, now: bool = False) -> None:
        """Write how many lines were left out, if the minute has ended.

        :param now: whether it has ended or not
        """
        self._lines.flush(now=now)

    def _write(
        self,
        level: int,
        fate: str,
        event: events.Event,
        ids: tuple[str | None, str | None],
        *,
        hosts: Sequence[str],
        reason: str,
    ) -> None:
        if not LOG.isEnabledFor(level):
            return
        own, sender = ids
        self._lines.write(
            level,
            _FORM,
            fate,
            event.name,
            event.server_uuid,
            event.tag,
            ', '.join(hosts) or '-',
            own or '-',
            sender or '-',
            event.id,
            reason,
        )
