"""Parameters of queries: their names, schemas and conversions. Each name has one meaning in all lists."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re
from typing import Any
import urllib.parse

from external_events_router import checks
from external_events_router import events
from external_events_router import exceptions
from external_events_router.api import faults
from external_events_router.journal import states
from external_events_router.operations import actions
from external_events_router.operations import events as event_operations
from external_events_router.operations import held
from external_events_router.operations import times
from external_events_router.resolver.hold import base as hold_base

Schema = dict[str, Any]

#: Maximum number of parameters, and of characters of a value.
MAX_PARAMETERS = 50
MAX_VALUE = 255

#: A uuid in canonical form, which all answers have. The API accepts the other usual forms, too.
UUID = '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
HOST = r'^[0-9A-Za-z._:@-]{1,200}$'
ID = r'^[0-9A-Za-z._:-]{1,64}$'
_TEXT = '^[^\\u0000-\\u001f\\u007f-\\u00a0\\u00ad\\u0300-\\uffff]{1,64}$'

_DAY = '((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)'
_CLOCK = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?'
TIME = f'^([0-9]{{1,6}}[smhdw]|20[0-9]{{2}}-{_DAY}T{_CLOCK}Z)$'


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query.

    :ivar schema: of one value
    :ivar convert: returns the value for an operation; raises InvalidArgument
    :ivar default: value if the parameter is missing
    :ivar repeated: the parameter may occur several times; the value is a list
    """

    name: str
    description: str
    schema: Schema
    convert: Callable[[str], Any] = str
    default: Any = None
    repeated: bool = False

    def document(self) -> Schema:
        """Return the parameter in the form of OpenAPI."""
        schema: Schema = (
            {'type': 'array', 'items': self.schema, 'maxItems': 10} if self.repeated else self.schema
        )
        return {'name': self.name, 'in': 'query', 'description': self.description, 'schema': schema}


def parse(query: str, declared: Sequence[Parameter]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the values of all declared parameters, and the texts of the given ones.

    :param query: the query of the URL, without the question mark
    :raises Fault: 400 with the name of the parameter and the permitted values
    """
    by_name = {parameter.name: parameter for parameter in declared}
    values: dict[str, Any] = {
        parameter.name: [] if parameter.repeated else parameter.default for parameter in declared
    }
    given = _split(query)
    seen: set[str] = set()
    for name, text in given:
        parameter = by_name.get(name)
        if parameter is None:
            known = ', '.join(sorted(by_name)) or 'none'
            raise faults.Fault(400, f'Unknown parameter {checks.shown(name)}: the parameters are {known}.')
        if name in seen and not parameter.repeated:
            raise faults.Fault(400, f'The parameter {name} is given twice.')
        seen.add(name)
        value = _converted(parameter, text)
        if parameter.repeated:
            values[name].append(value)
        else:
            values[name] = value
    return values, given


def _split(query: str) -> list[tuple[str, str]]:
    try:
        return urllib.parse.parse_qsl(
            query, keep_blank_values=True, errors='strict', max_num_fields=MAX_PARAMETERS
        )
    except ValueError as exc:
        raise faults.Fault(
            400, f'The query has more than {MAX_PARAMETERS} parameters or is not UTF-8.'
        ) from exc


def _converted(parameter: Parameter, text: str) -> Any:
    if len(text) > MAX_VALUE or checks.clean_text(text) != text:
        raise faults.Fault(
            400,
            f'The parameter {parameter.name} has more than {MAX_VALUE} characters or control characters.',
        )
    try:
        return parameter.convert(text)
    except (exceptions.InvalidArgument, exceptions.MalformedMessage) as exc:
        raise faults.Fault(400, f'Invalid parameter {parameter.name}: {exc}.') from exc


def matching(pattern: str, what: str) -> Callable[[str], str]:
    """Return a conversion for texts of a form."""
    compiled = re.compile(pattern)

    def convert(text: str) -> str:
        if not compiled.fullmatch(text):
            raise exceptions.InvalidArgument(f'{checks.shown(text)} is not {what}')
        return text

    return convert


def one_of(values: Sequence[str]) -> Callable[[str], str]:
    """Return a conversion for texts of a closed list."""

    def convert(text: str) -> str:
        if text not in values:
            raise exceptions.InvalidArgument(f'{checks.shown(text)} is not one of {", ".join(values)}')
        return text

    return convert


def number(least: int, most: int) -> Callable[[str], int]:
    """Return a conversion for integers between two bounds."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise exceptions.InvalidArgument(f'{checks.shown(text)} is not an integer from {least} to {most}')
        return int(text)

    return convert


def moment(text: str) -> times.Moment:
    """Convert a time or a duration before now.

    :raises InvalidArgument: the text has another form
    """
    return times.Moment(matching(TIME, times.FORMS)(text))


def server(text: str) -> str:
    """Convert a uuid in any usual form to its canonical form.

    :raises InvalidArgument: the text is not a uuid
    """
    canonical = events.canonical_uuid(text)
    if canonical is None:
        raise exceptions.InvalidArgument(f'{checks.shown(text)} is not a uuid')
    return canonical


def _boolean(text: str) -> bool:
    return one_of(('true', 'false'))(text) == 'true'


def _codes() -> list[str]:
    return [str(int(code)) for code in events.Code]


_TIME_SCHEMA: Schema = {'type': 'string', 'pattern': TIME}
_NAMES = list(events.EVENT_TYPES)
_STATES = [str(state) for state in states.State]
_HELD_STATES = [str(state) for state in hold_base.State]

SERVER = Parameter(
    'server', 'Only events of the server with this uuid.', {'type': 'string', 'pattern': UUID}, server
)
PORT = Parameter(
    'port',
    'Only events with this tag, for network events the id of the port.',
    {'type': 'string', 'pattern': _TEXT},
)
REQUEST = Parameter(
    'request',
    'Only events of this request: the id of the sender or of the router.',
    {'type': 'string', 'pattern': ID},
    matching(ID, 'an id'),
)
SENDER = Parameter(
    'sender',
    'Only events from the user with this id.',
    {'type': 'string', 'pattern': ID},
    matching(ID, 'an id'),
)
HOST_NAME = Parameter(
    'host',
    'Only events of this host.',
    {'type': 'string', 'pattern': HOST},
    matching(HOST, 'the name of a host'),
)
CODE = Parameter(
    'code',
    'Only events that were answered with this code.',
    {'type': 'string', 'enum': _codes()},
    lambda text: int(one_of(_codes())(text)),
    repeated=True,
)
NAME = Parameter(
    'name', 'Only events with this name.', {'type': 'string', 'enum': _NAMES}, one_of(_NAMES), repeated=True
)
ONE_NAME = dataclasses.replace(NAME, repeated=False)
STATE = Parameter(
    'state',
    'Only events in this state.',
    {'type': 'string', 'enum': _STATES},
    lambda text: states.State(one_of(_STATES)(text)),
)
HELD_STATE = Parameter(
    'state',
    'Only events in this state.',
    {'type': 'string', 'enum': _HELD_STATES},
    lambda text: hold_base.State(one_of(_HELD_STATES)(text)),
)
SINCE = Parameter(
    'since',
    f'Only objects since this time: a duration before now, or a time in UTC. '
    f'Default: {event_operations.SINCE}.',
    _TIME_SCHEMA,
    moment,
    default=times.Moment(event_operations.SINCE),
)
UNTIL = Parameter('until', 'Only objects until this time. Default: now.', _TIME_SCHEMA, moment)
AT = Parameter('at', 'Only events within 10 minutes before and after this time.', _TIME_SCHEMA, moment)
OLDEST_FIRST = Parameter(
    'oldest_first', 'List the oldest objects first.', {'type': 'boolean'}, _boolean, default=False
)
PROBLEM = Parameter(
    'problem', 'Only hosts that may not receive events in time.', {'type': 'boolean'}, _boolean, default=False
)
QUEUES = Parameter(
    'queues',
    'Ask the broker for the consumers of the queues of hosts.',
    {'type': 'boolean'},
    _boolean,
    default=True,
)
_SERVICES = ('api', 'resolver')
SERVICE = Parameter(
    'service',
    'The service whose checks run. Default: api.',
    {'type': 'string', 'enum': list(_SERVICES)},
    one_of(_SERVICES),
    default='api',
)
WAIT = Parameter(
    'wait',
    'Seconds to wait for new events.',
    {'type': 'integer', 'minimum': 0, 'maximum': 30},
    number(0, 30),
    default=20,
)
EVENT_MARKER = Parameter(
    'marker',
    'Continue after this object; see the link "next" of the previous answer.',
    {'type': 'string', 'pattern': '^[0-9]{1,18}-[0-9]{1,9}-[0-9]{1,18}$'},
    lambda text: event_operations.parse_marker(
        matching('[0-9]{1,18}-[0-9]{1,9}-[0-9]{1,18}', 'a marker')(text)
    ),
)
HELD_MARKER = dataclasses.replace(
    EVENT_MARKER,
    schema={'type': 'string', 'pattern': '^(held|ended)-[0-9]{1,18}$'},
    convert=held.parse_marker,
)
ACTION_MARKER = dataclasses.replace(
    EVENT_MARKER,
    schema={'type': 'string', 'pattern': '^[0-9]{1,18}-[0-9]{1,18}$'},
    convert=actions.parse_marker,
)
HOST_MARKER = dataclasses.replace(
    EVENT_MARKER, schema={'type': 'string', 'pattern': HOST}, convert=matching(HOST, 'a marker'), default=''
)

#: The number of objects of an answer, unless a request states another number.
DEFAULT_LIMIT = 100


def limit(most: int) -> Parameter:
    """Return the parameter for the number of objects.

    :param most: maximum
    """
    default = min(DEFAULT_LIMIT, most)
    return Parameter(
        'limit',
        f'Maximum number of objects in the answer. Default: {default}.',
        {'type': 'integer', 'minimum': 1, 'maximum': most},
        number(1, most),
        default=default,
    )


#: The filters of events, in all operations.
EVENT_FILTERS = (SERVER, PORT, REQUEST, SENDER, HOST_NAME, CODE, NAME, STATE)
HELD_FILTERS = (HOST_NAME, SERVER, HELD_STATE)


def event_filter(query: Mapping[str, Any]) -> event_operations.Filter:
    """Return the filter of the parameters in :data:`EVENT_FILTERS`."""
    return event_operations.Filter(
        server=query['server'],
        port=query['port'],
        request=query['request'],
        sender=query['sender'],
        host=query['host'],
        code=frozenset(query['code']),
        name=frozenset(query['name']),
        state=query['state'],
    )


def held_filter(query: Mapping[str, Any]) -> held.Filter:
    """Return the filter of the parameters in :data:`HELD_FILTERS`, from a query or a body."""
    state = query.get('state')
    return held.Filter(
        host=query.get('host'),
        server=query.get('server'),
        state=None if state is None else hold_base.State(state),
    )
