"""The answers of hosts to events, and the code that follows from them.

All functions are pure. An answer is identified by the host and the id of the event everywhere, from the
message of the host to the decision.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses

from external_events_router import events

#: A host and the id of an event that it was asked about.
Key = tuple[str, str]

#: Reason of a missing answer, if nothing else is known.
NO_ACK = 'no acknowledgement in time'

#: Reason of a missing answer of a host to which the message was not sent.
NOT_SENT = 'not sent in time'

#: Reasons of a missing answer for which this worker, not the host or a broker, is responsible: the instance
#: is not known, no thread was free, an unexpected error (with its type).
NOT_READ = 'the instance could not be read'
NO_THREAD = 'no thread of its cell was free in time'
UNEXPECTED = 'unexpected '

#: Why a host was not asked about an event.
BEHIND = 'behind an earlier event of the server'
NOT_WAITED_FOR = 'the host is not waited for'


# NOTE: not frozen, because creating a frozen object takes five times as long. Treat it as immutable.
@dataclasses.dataclass(slots=True)
class Answer:
    """The answer of one host to one event.

    :ivar verdict: result on the host; None: no answer
    :ivar reason: explanation of the host, or why it was not asked
    :ivar asked: False if the message was not sent, or the broker did not accept it: then the missing
        verdict does not show whether the host responds
    :ivar at: instant of ``time.monotonic()`` at which the host answered; None: no answer, or unknown
    :ivar handling: details from the agent; None: the agent does not report them
    """

    verdict: events.Verdict | None
    reason: str | None = None
    asked: bool = True
    at: float | None = None
    handling: events.Handling | None = None


#: The answers of hosts, each to one event.
Answers = dict[Key, Answer]


def is_stale(event: events.Event, hosts: Collection[str], answers: Mapping[Key, Answer]) -> bool:
    """Return whether all asked hosts have answered that they do not have the server.

    :param hosts: the hosts that were asked; not empty
    :param answers: has an answer of each of these hosts to the event
    """
    return all(answers[host, event.id].verdict is events.Verdict.NOT_HERE for host in hosts)


def outcome_of(event: events.Event, hosts: Collection[str], answers: Mapping[Key, Answer]) -> events.Outcome:
    """Combine the answers of all hosts of an event to one outcome.

    A host that refused the event decides, because the event was not handled where it should have been,
    and another attempt would not help. Next, a host without an answer decides. A host without the server
    is ignored if another host has handled the event.

    :param hosts: as in :func:`is_stale`
    :param answers: as in :func:`is_stale`
    """
    received = [(host, answers[host, event.id]) for host in hosts]
    if all(answer.verdict is events.Verdict.HANDLED for _host, answer in received):
        return events.Outcome(event, events.Code.DELIVERED)
    for host, answer in received:
        if answer.verdict is events.Verdict.REFUSED:
            return events.Outcome(event, events.Code.REFUSED, _reason(host, answer))
    for host, answer in received:
        if answer.verdict is None:
            return events.Outcome(event, events.Code.UNDELIVERED, _reason(host, answer))
    if is_stale(event, hosts, answers):
        return events.Outcome(event, events.Code.NO_HOST, f'not on {", ".join(hosts)}')
    return events.Outcome(event, events.Code.DELIVERED)


def hosts_that_handled(
    event: events.Event, hosts: Collection[str], answers: Mapping[Key, Answer]
) -> frozenset[str]:
    """Return the hosts that handled an event.

    :param hosts: as in :func:`is_stale`
    :param answers: as in :func:`is_stale`
    """
    return frozenset(host for host in hosts if answers[host, event.id].verdict is events.Verdict.HANDLED)


def _reason(host: str, answer: Answer) -> str:
    return f'{host}: {answer.reason or "no reason given"}'
