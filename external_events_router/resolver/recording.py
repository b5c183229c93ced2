"""The reason of each code that the journal records.

Pure functions, called by the thread that writes the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import time
from typing import Any

from oslo_config import cfg

from external_events_router import checks
from external_events_router import events
from external_events_router import exceptions
from external_events_router import rejected
from external_events_router.journal import entries
from external_events_router.journal import reasons
from external_events_router.journal import recorder
from external_events_router.resolver import answers as host_answers
from external_events_router.resolver.health import liveness

#: Texts in a reason that show that the queue of a host has no consumer.
_NO_QUEUE = (liveness.NO_CONSUMER, str(exceptions.HostUnreachable(host='')).strip())

#: Beginnings of reasons for which neither the host nor the broker is responsible.
_OF_THIS_WORKER = (
    host_answers.NOT_SENT,
    host_answers.NOT_READ,
    host_answers.NO_THREAD,
    host_answers.UNEXPECTED,
)

#: Members of a refused request.
_TEXTS = (
    'detail',
    'user_id',
    'user_name',
    'project_id',
    'address',
    'request_id',
    'global_request_id',
)

#: Seconds of the period in which refused requests were missed that did not reach a resolver.
MISSED_SECONDS = 3600.0

_WITHOUT_HOST: Mapping[events.Code, reasons.Reason] = {
    events.Code.BAD_TAG: reasons.Reason.BAD_TAG,
    events.Code.NO_SUCH_SERVER: reasons.Reason.UNKNOWN_SERVER,
    events.Code.NO_HOST: reasons.Reason.NO_HOST,
    events.Code.REFUSED: reasons.Reason.HANDLER_FAILED,
    events.Code.UNDELIVERED: reasons.Reason.MAP_UNAVAILABLE,
}


def from_conf(conf: cfg.ConfigOpts) -> Callable[[str], recorder.Recorder]:
    """Make the recorder of a worker from its name.

    :raises ConfigurationError: by the call, if a value cannot be used
    """
    handed = conf.compute.driver == 'nova' and conf.nova.acknowledge == 'broker'
    return lambda name: recorder.from_conf(
        conf, functools.partial(reason_of, delivered=_delivered(handed)), name=name, service=conf.prog or ''
    )


def reason_of(
    outcome: events.Outcome,
    by_host: Mapping[str, host_answers.Answer],
    *,
    delivered: reasons.Reason = reasons.Reason.ACKNOWLEDGED,
) -> reasons.Reason:
    """Return why an event has its code.

    :param by_host: the answer of each host of the server
    :param delivered: the reason of an event that all hosts have taken
    """
    if outcome.code is events.Code.DELIVERED:
        # NOTE: a delivered event has no reason as text; a held event always has one.
        return delivered if outcome.reason is None else _held(by_host)
    if by_host and outcome.code is events.Code.NO_HOST:
        return reasons.Reason.NOT_ON_HOST
    if by_host and outcome.code is events.Code.UNDELIVERED:
        return reasons.Reason.NOT_HELD
    return _WITHOUT_HOST[outcome.code]


def _held(by_host: Mapping[str, host_answers.Answer]) -> reasons.Reason:
    if not by_host:
        return reasons.Reason.HELD_UNASSIGNED
    for answer in by_host.values():
        if answer.verdict is None:
            return _missing(answer)
    return reasons.Reason.HELD_MAP_UNAVAILABLE


def _missing(answer: host_answers.Answer) -> reasons.Reason:
    """Return why a host has not handled an event."""
    reason = answer.reason or ''
    if reason == host_answers.BEHIND:
        return reasons.Reason.HELD_BEHIND
    if reason.startswith(_NO_QUEUE):
        return reasons.Reason.HELD_NO_QUEUE
    if reason.startswith(_OF_THIS_WORKER):
        return reasons.Reason.HELD_OTHER
    if not answer.asked:
        return reasons.Reason.HELD_BROKER_UNAVAILABLE
    if reason in (host_answers.NO_ACK, host_answers.NOT_WAITED_FOR, liveness.SUSPECTED):
        return reasons.Reason.HELD_SILENT_HOST
    return reasons.Reason.HELD_OTHER


def _delivered(handed: bool) -> reasons.Reason:
    return reasons.Reason.HANDED_TO_BROKER if handed else reasons.Reason.ACKNOWLEDGED


def record_refusals(
    journal: recorder.Recorder,
    refusals: Sequence[Mapping[str, Any]],
    *,
    dropped: int = 0,
    api: Mapping[str, Any] | None = None,
) -> None:
    """Record requests that an API refused; an invalid item is left out.

    :param refusals: as ``api.refusals.describe`` makes them
    :param dropped: number of those before them that did not reach a resolver
    :param api: the process, as ``api.presence`` describes it; None: it does not describe itself
    """
    for data in refusals:
        try:
            journal.refused(_refusal(data))
        except (exceptions.MalformedMessage, KeyError, TypeError, ValueError):
            rejected.ALL.note('refused request', 'it is not recorded', data)
    try:
        presence = None if api is None else _presence(api)
        dropped_ms = _number(api, 'dropped_ms') if api is not None else None
    except (exceptions.MalformedMessage, KeyError, TypeError):
        rejected.ALL.note('state of an API process', 'it is not recorded', api)
        presence, dropped_ms = None, None
    if dropped:
        journal.missed(dropped, seconds=MISSED_SECONDS if dropped_ms is None else dropped_ms / 1000)
    if presence is not None:
        journal.present(presence)


def _presence(data: Mapping[str, Any]) -> entries.Presence:
    now, name, host, record = time.monotonic(), data['name'], data['host'], data['record']
    if not checks.is_host(name) or not checks.is_host(host) or record not in ('all', 'problems', 'none'):
        raise exceptions.MalformedMessage(what='state of an API process', value=data)
    return entries.Presence(
        id=-_number(data, 'id'),
        name=name,
        host=host,
        pid=_number(data, 'pid'),
        record=record,
        since=now - _number(data, 'age_ms') / 1000,
        complete_until=now - _number(data, 'complete_ms') / 1000,
        is_stopped=data['stopped'] is True,
    )


def _number(data: Mapping[str, Any], name: str) -> int:
    number = data[name]
    if type(number) is not int or not 0 <= number < 2**40 or (name in ('id', 'pid') and number >= 2**31):
        raise exceptions.MalformedMessage(what=name, value=number)
    return number


def _refusal(data: Mapping[str, Any]) -> entries.Refusal:
    status, suppressed, age = data['status'], data.get('suppressed', 0), data.get('age_ms', 0)
    if not all(type(number) is int and 0 <= number < 2**31 for number in (status, suppressed, age)):
        raise exceptions.MalformedMessage(what='refused request', value=data)
    texts: dict[str, Any] = {name: data.get(name) for name in _TEXTS}
    named: dict[str, Any] = {name: data.get(name) or [] for name in ('servers', 'names')}
    lists_of_texts = all(type(value) is list and all(map(_is_text, value)) for value in named.values())
    if not lists_of_texts or not all(value is None or _is_text(value) for value in texts.values()):
        raise exceptions.MalformedMessage(what='refused request', value=data)
    return entries.Refusal(
        status % 1000,
        reasons.Refusal(data['reason']),
        texts.pop('detail') or '',
        suppressed=suppressed,
        servers=named['servers'],
        names=named['names'],
        since=time.monotonic() - age / 1000,
        **texts,
    )


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= checks.MAX_REASON
