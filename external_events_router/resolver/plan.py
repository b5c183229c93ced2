"""The plan for a batch: the events for each host, and the codes of events that need no host.

All functions are pure. ``answers`` decides the code of an event that was sent to hosts.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from external_events_router import events
from external_events_router.resolver import answers
from external_events_router.resolver.host_map import base


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The plan for a batch, by the ids of its events.

    :ivar decided: the outcome of each event that needs no host
    :ivar hosts: the hosts of each other event; not empty
    :ivar by_host: the events for each host, in the order of the batch
    """

    decided: Mapping[str, events.Outcome]
    hosts: Mapping[str, tuple[str, ...]]
    by_host: Mapping[str, Sequence[events.Event]]

    def without(self, skipped: Collection[answers.Key]) -> Mapping[str, Sequence[events.Event]]:
        """Return :attr:`by_host` without some events at some hosts; leave out hosts without events."""
        if not skipped:
            return self.by_host
        remaining = {
            host: [event for event in sent if (host, event.id) not in skipped]
            for host, sent in self.by_host.items()
        }
        return {host: sent for host, sent in remaining.items() if sent}

    def with_decided(self, outcomes: Iterable[events.Outcome]) -> Plan:
        """Return the plan with the outcomes of more events."""
        decided = {outcome.event.id: outcome for outcome in outcomes}
        return dataclasses.replace(self, decided={**self.decided, **decided})

    def extended(self, later: Plan) -> Plan:
        """Add a later plan: its outcomes, and its hosts after the hosts of this plan for each event."""
        hosts = {
            event_id: tuple(dict.fromkeys((*self.hosts.get(event_id, ()), *more)))
            for event_id, more in later.hosts.items()
        }
        return Plan({**self.decided, **later.decided}, {**self.hosts, **hosts}, self.by_host)


def by_host(batch: Iterable[events.Event], lookup: base.Lookup) -> Plan:
    """Group events by host, and decide the codes of events that need no host.

    The order of the checks is Nova's: a server that is not known is 404 before
    its event's tag is checked, and a bad tag is 400 before a missing host is 422.
    """
    decided: dict[str, events.Outcome] = {}
    hosts: dict[str, tuple[str, ...]] = {}
    grouped: dict[str, list[events.Event]] = {}
    for event in batch:
        outcome = _without_host(event, lookup)
        if outcome is not None:
            decided[event.id] = outcome
            continue
        hosts[event.id] = lookup.hosts[event.server_uuid]
        for host in hosts[event.id]:
            grouped.setdefault(host, []).append(event)
    return Plan(decided, hosts, grouped)


def _without_host(event: events.Event, lookup: base.Lookup) -> events.Outcome | None:
    problem = events.tag_problem(event)
    if event.server_uuid in lookup.unavailable:
        if problem is not None:
            return events.Outcome(event, events.Code.BAD_TAG, problem)
        return events.Outcome(event, events.Code.UNDELIVERED, lookup.why(event.server_uuid))
    if event.server_uuid not in lookup.hosts:
        return events.Outcome(event, events.Code.NO_SUCH_SERVER, 'no such server')
    if problem is not None:
        return events.Outcome(event, events.Code.BAD_TAG, problem)
    if not lookup.hosts[event.server_uuid]:
        return events.Outcome(event, events.Code.NO_HOST, 'the server is on no host')
    return None
