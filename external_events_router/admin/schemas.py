"""JSON schemas of the answers and bodies of the admin API, for the OpenAPI document and for validation."""

from __future__ import annotations

from typing import Any

from external_events_router import events
from external_events_router.admin import confirmations
from external_events_router.admin import parameters

Schema = dict[str, Any]

_TEXT: Schema = {'type': 'string'}
_NULLABLE: Schema = {'type': ['string', 'null']}
_NUMBER: Schema = {'type': 'number'}
_COUNT: Schema = {'type': 'integer', 'minimum': 0}
_FLAG: Schema = {'type': 'boolean'}
_TEXTS: Schema = {'type': 'array', 'items': _TEXT}
_TIME: Schema = {'type': 'string', 'format': 'date-time'}
_TIME_OR_NULL: Schema = {'type': ['string', 'null'], 'format': 'date-time'}


def _object(**members: Schema) -> Schema:
    """Return the schema of an answer: all members are present."""
    return {
        'type': 'object',
        'properties': members,
        'required': list(members),
        'additionalProperties': False,
    }


def _body(*required: str, **members: Schema) -> Schema:
    """Return the schema of a body: further members are not permitted."""
    return {
        'type': 'object',
        'properties': members,
        'required': list(required),
        'additionalProperties': False,
    }


def _list(name: str, item: Schema) -> Schema:
    link = _object(rel={'const': 'next'}, href=_TEXT)
    members: dict[str, Schema] = {
        name: {'type': 'array', 'items': item},
        'links': {'type': 'array', 'items': link, 'maxItems': 1},
    }
    return _object(**members)


_EVENT = _object(
    time=_TIME,
    event=_TEXT,
    name=_TEXT,
    tag=_NULLABLE,
    server=_TEXT,
    code={'type': 'integer'},
    state=_TEXT,
    hosts=_TEXTS,
    status=_TEXT,
    reason=_TEXT,
    detail=_NULLABLE,
    ack_ms={'type': ['integer', 'null']},
    sender=_NULLABLE,
    project=_NULLABLE,
    request=_NULLABLE,
    sender_request=_NULLABLE,
    replayed=_FLAG,
    marker=_TEXT,
)

_HELD = _object(
    event=_TEXT,
    state=_TEXT,
    name=_TEXT,
    server=_TEXT,
    hosts=_TEXTS,
    acknowledged=_TEXTS,
    expires_at=_TIME_OR_NULL,
    ended_at=_TIME_OR_NULL,
    tag=_NULLABLE,
    status=_TEXT,
    request=_NULLABLE,
    attempts=_COUNT,
    held_at=_TIME,
    reason=_TEXT,
)

_HOST = _object(
    host=_TEXT,
    servers=_COUNT,
    last_report=_TIME_OR_NULL,
    breakers_open=_COUNT,
    held=_COUNT,
    queue=_TEXT,
    problems=_TEXTS,
)

_ENTRY = _object(
    time=_TIME, relative=_NUMBER, kind=_TEXT, what=_TEXT, host=_NULLABLE, text=_TEXT, event=_NULLABLE
)

_TIMELINE: Schema = {
    'server': _TEXT,
    'port': _NULLABLE,
    'name': _NULLABLE,
    'since': _TIME,
    'until': _TIME,
    'relative_to': _TEXT,
    'timeline': {'type': 'array', 'items': _ENTRY},
    'complete': _FLAG,
    'warnings': _TEXTS,
}

_NEXT_STEP = _object(text=_TEXT, command=_NULLABLE, search=_NULLABLE, log=_NULLABLE, host=_NULLABLE)

_ACTION = _object(
    time=_TIME,
    action=_TEXT,
    user=_TEXT,
    user_id=_NULLABLE,
    project_id=_NULLABLE,
    address=_NULLABLE,
    request=_NULLABLE,
    filter={'type': 'object'},
    count=_COUNT,
    problem=_NULLABLE,
)

_FILTER = _body(
    host={'type': 'string', 'pattern': parameters.HOST},
    server={'type': 'string', 'pattern': parameters.UUID},
    state=parameters.HELD_STATE.schema,
)

_EVENT_NAME: Schema = {'type': 'string', 'enum': list(events.EVENT_TYPES)}

#: Schemas of answers, by their names in the OpenAPI document.
ANSWERS: dict[str, Schema] = {
    'events': _list('events', _EVENT),
    'event': _object(
        event=_TEXT,
        posted={'type': 'array', 'items': _EVENT},
        history={
            'type': 'array',
            'items': _object(seconds=_NUMBER, time=_TIME, kind=_TEXT, host=_NULLABLE, what_happened=_TEXT),
        },
    ),
    'timeline': _object(**_TIMELINE),
    'explanation': _object(
        **_TIMELINE,
        verdict=_TEXT,
        sentence=_TEXT,
        event=_NULLABLE,
        next_step=_NEXT_STEP,
        exit_status={'type': 'integer'},
    ),
    'prediction': _object(
        server=_TEXT,
        event=_TEXT,
        source=_TEXT,
        age={'type': ['integer', 'null']},
        hosts={
            'type': 'array',
            'items': _object(
                name=_TEXT,
                cell=_NULLABLE,
                queue={'type': ['boolean', 'null']},
                consumers={'type': ['integer', 'null']},
                breaker=_TEXT,
                behind=_FLAG,
            ),
        },
        held=_COUNT,
        code={'type': 'integer'},
        reason=_TEXT,
        expected=_TEXT,
        not_known=_NULLABLE,
    ),
    'held': _list('held', _HELD),
    'heldEvent': _HELD,
    'preview': _object(
        action=_TEXT,
        filter=_object(host=_NULLABLE, server=_NULLABLE, state=_NULLABLE),
        count=_COUNT,
        kinds={'type': 'array', 'items': _object(state=_TEXT, name=_TEXT, count=_COUNT)},
        confirmation=_TEXT,
        expires_at=_TIME,
    ),
    'retried': _object(servers_rescheduled=_COUNT, events_requeued=_COUNT, events_not_requeued=_COUNT),
    'dropped': _object(dropped=_COUNT, may_be_handled_by=_TEXTS, may_be_handled_until=_TIME_OR_NULL),
    'hosts': _list('hosts', _HOST),
    'host': _HOST,
    'replayed': {
        'oneOf': [
            _object(
                dry_run={'const': True},
                due=_COUNT,
                names={
                    'type': 'array',
                    'items': _object(name=_TEXT, due=_COUNT, late=_COUNT, held=_COUNT),
                },
            ),
            _object(
                dry_run={'const': False},
                sent=_COUNT,
                not_sent=_COUNT,
                names={
                    'type': 'array',
                    'items': _object(
                        name=_TEXT,
                        sent=_COUNT,
                        delivered=_COUNT,
                        held=_COUNT,
                        not_delivered=_COUNT,
                        late=_COUNT,
                        already_held=_COUNT,
                    ),
                },
            ),
        ]
    },
    'serverHosts': _object(server=_TEXT, hosts=_TEXTS),
    'summary': _object(
        time=_TIME,
        state={'enum': ['ok', 'problem']},
        sentence=_TEXT,
        held=_COUNT,
        held_oldest_seconds=_NUMBER,
        ended={'type': 'object', 'additionalProperties': _COUNT},
        unresponsive_hosts=_COUNT,
        workers=_COUNT,
        journal_gaps={
            'type': 'array',
            'items': _object(**{'from': _TIME, 'to': _TIME, 'reason': _TEXT, 'worker': _NULLABLE}),
        },
    ),
    'doctor': _object(
        status={'enum': ['OK', 'WARN', 'FAIL']},
        checks={
            'type': 'array',
            'items': _object(status=_TEXT, check=_TEXT, evidence=_TEXT, remedy=_TEXT),
        },
    ),
    'actions': _list('actions', _ACTION),
}

#: Schemas of bodies, by their names in the OpenAPI document.
BODIES: dict[str, Schema] = {
    'heldFilter': _FILTER,
    'confirmedFilter': _body(
        'filter',
        'confirmation',
        filter=_FILTER,
        confirmation={'type': 'string', 'maxLength': confirmations.MAX_LENGTH},
    ),
    'retryOne': _body(ttl={'type': 'number', 'exclusiveMinimum': 0, 'maximum': 604800}),
    'replay': _body(
        'since',
        since=parameters.SINCE.schema,
        name={'type': 'array', 'items': _EVENT_NAME, 'maxItems': 20},
        force=_FLAG,
        dry_run=_FLAG,
    ),
    'simulate': _body(
        'server',
        'name',
        server={'type': 'string', 'pattern': parameters.UUID},
        name=_EVENT_NAME,
        tag=parameters.PORT.schema,
    ),
}
