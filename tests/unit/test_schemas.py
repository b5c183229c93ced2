"""The members of a request body at each microversion, and the error messages for invalid bodies."""

from __future__ import annotations

from typing import Any
import uuid

import hypothesis
from hypothesis import strategies
import jsonschema

from external_events_router import events
from external_events_router import schemas
from tests import base
from tests import generated

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'
EVENT = {'name': 'network-changed', 'server_uuid': SERVER}


def problem(document: Any, version: events.Microversion = (2, 1), *, strict: bool = True) -> str | None:
    return schemas.request_problem(document, version, strict=strict)


class RequestTest(base.TestCase):
    def test_each_name_is_accepted_from_its_microversion_on(self) -> None:
        for name, kind in events.EVENT_TYPES.items():
            batch = {'events': [{**EVENT, 'name': name}]}
            for version in (
                (2, 1),
                (2, 50),
                (2, 51),
                (2, 75),
                (2, 76),
                (2, 81),
                (2, 82),
                (2, 92),
                (2, 93),
                (2, 104),
            ):
                found = problem(batch, version)
                self.assertEqual((name, version, version >= kind.min_version), (name, version, found is None))
        self.assertIn(
            'volume-extended needs microversion 2.51',
            str(problem({'events': [{**EVENT, 'name': 'volume-extended'}]})),
        )

    def test_valid_bodies(self) -> None:
        for event in (
            EVENT,
            {**EVENT, 'tag': ''},
            {**EVENT, 'tag': 'a' * 255},
            {**EVENT, 'tag': '\U0001f600' * 255},
            *({**EVENT, 'status': status} for status in events.STATUSES),
            {**EVENT, 'server_uuid': SERVER.upper()},
        ):
            self.assertIsNone(problem({'events': [event]}))

    def test_error_names_the_member_its_value_and_the_allowed_values(self) -> None:
        long = 'a' * 256
        for document, message in (
            (None, 'the body is null, but must be an object'),
            ([1], 'the body is [...], but must be an object'),
            ({}, 'events is missing'),
            ({'event': []}, 'events is missing'),
            ({'events': {}}, 'events is {}, but must be an array'),
            ({'events': []}, 'events is empty, but must contain at least one event'),
            ({'events': [EVENT], 'x': 1}, 'x is not a known member; known are: events'),
            ({'events': [EVENT, None]}, 'events[1] is null, but must be an object'),
            ({'events': [{'server_uuid': SERVER}]}, 'events[0].name is missing'),
            ({'events': [{'name': 'network-changed'}]}, 'events[0].server_uuid is missing'),
            ({'events': [{**EVENT, 'name': 7}]}, 'events[0].name is 7, but must be a string'),
            (
                {'events': [{**EVENT, 'name': 'x'}]},
                'events[0].name is "x", but must be one of: network-changed, network-vif-plugged, '
                'network-vif-unplugged, network-vif-deleted',
            ),
            (
                {'events': [{**EVENT, 'status': 'x'}]},
                'events[0].status is "x", but must be one of: failed, completed, in-progress',
            ),
            (
                {'events': [EVENT] * 3 + [{**EVENT, 'tag': True}]},
                'events[3].tag is true, but must be a string',
            ),
            (
                {'events': [{**EVENT, 'tag': long}]},
                f'events[0].tag is "{"a" * 60}"..., which has 256 characters; at most 255 are allowed',
            ),
            (
                {'events': [{**EVENT, 'server_uuid': 'no'}]},
                'events[0].server_uuid is "no", but must be a UUID',
            ),
            (
                {'events': [{**EVENT, 'code': 200}]},
                'events[0].code is not a known member; known are: name, server_uuid, tag, status',
            ),
            (
                {'events': [{**EVENT, 'a\nb\ud800': 1}]},
                'events[0]."a\\nb\\ud800" is not a known member; known are: name, server_uuid, tag, status',
            ),
        ):
            self.assertEqual(message, problem(document))

    def test_unknown_members_are_ignored_by_the_older_endpoint(self) -> None:
        document = {'events': [{**EVENT, 'extra': 1}], 'more': 2}
        self.assertIsNone(problem(document, strict=False))
        self.assertIsNotNone(problem({'events': [{**EVENT, 'tag': 1}]}, strict=False))

    def test_messages_are_short(self) -> None:
        for value in ('x' * 10**6, [1] * 10**6, {str(i): i for i in range(10**4)}, 10**4000):
            for member in ('name', 'server_uuid', 'tag', 'status'):
                self.assertLess(len(problem({'events': [{**EVENT, member: value}]}) or ''), 300)

    def test_schemas_are_valid(self) -> None:
        for version in ((2, 1), events.MAX_MICROVERSION):
            for strict in (True, False):
                jsonschema.Draft202012Validator.check_schema(schemas.request_schema(version, strict=strict))
        jsonschema.Draft202012Validator.check_schema(schemas.response_schema())


class ResponseTest(base.TestCase):
    def test_members_of_a_response(self) -> None:
        validator = jsonschema.Draft202012Validator(schemas.response_schema())
        answer = {**EVENT, 'status': 'completed', 'code': 200}
        self.assertTrue(validator.is_valid({'events': [answer]}))
        for bad in (
            {**answer, 'reason': 'x'},
            {**answer, 'code': 202},
            {**answer, 'status': 'in-progress'},
            EVENT,
        ):
            self.assertFalse(validator.is_valid({'events': [bad]}))


class UuidTest(base.TestCase):
    def test_forms_of_a_uuid(self) -> None:
        bare = SERVER.replace('-', '')
        for form in (
            *[SERVER] * 6,
            SERVER.upper(),
            bare,
            f'{{{SERVER}}}',
            f'urn:uuid:{SERVER}',
            f'{bare[:5]}-{bare[5:]}',
        ):
            self.assertEqual(SERVER, events.canonical_uuid(form))

    def test_other_texts(self) -> None:
        bare = SERVER.replace('-', '')
        for form in (
            '',
            'nope',
            f' {SERVER}',
            f'{SERVER}\n',
            f'{SERVER}0',
            SERVER[:-1],
            f'0x{bare[2:]}',
            f'+{bare[1:]}',
            f'{bare[:3]}_{bare[4:]}',
            f' {bare[1:]}',
            '\u0661' * 32,
        ):
            self.assertIsNone(events.canonical_uuid(form), form)

    def test_any_text(self) -> None:
        @generated.examples()
        @hypothesis.given(strategies.text() | strategies.text('0123456789abcdefABCDEF-{}urn:_ ', min_size=30))
        def check(text: str) -> None:
            canonical = events.canonical_uuid(text)
            if canonical is not None:
                self.assertEqual(str(uuid.UUID(text)), canonical)

        check()


#: Mapped, so that hypothesis treats it as one alternative and not as six.
ANYTHING: strategies.SearchStrategy[Any] = strategies.sampled_from([None, True, 0, 1.5, [], {}]).map(
    lambda v: v
)
MEMBERS = {
    'name': strategies.sampled_from([*events.EVENT_TYPES, 'network-Changed', '']),
    'server_uuid': strategies.sampled_from(
        [
            SERVER,
            SERVER.upper(),
            SERVER.replace('-', ''),
            f'{{{SERVER}}}',
            f'{SERVER}\n',
            f' {SERVER}',
            'x',
            '\ud800',
        ]
    ),
    'tag': strategies.text(max_size=3)
    | strategies.sampled_from(['t' * 255, 't' * 256, '\ud800', '\udfff' * 255, '\udfff' * 256]),
    'status': strategies.sampled_from([*events.STATUSES, 'Failed', '']),
    'more': strategies.text(max_size=1),
}
EVENTS = strategies.fixed_dictionaries(
    {}, optional={member: values | ANYTHING for member, values in MEMBERS.items()}
)
LIKELY = strategies.fixed_dictionaries(
    {member: MEMBERS[member] for member in ('name', 'server_uuid')},
    optional={member: MEMBERS[member] for member in ('tag', 'status')},
)
#: An event that is valid except for one or two members.
ODD = strategies.tuples(
    LIKELY,
    strategies.sampled_from([*MEMBERS]).flatmap(lambda member: MEMBERS[member].map(lambda v: {member: v})),
).map(lambda parts: {**parts[0], **parts[1]})
BATCHES = (
    strategies.lists(LIKELY, min_size=1, max_size=2)
    | strategies.lists(LIKELY | ODD, min_size=1, max_size=2)
    | strategies.lists(LIKELY | EVENTS | ANYTHING, max_size=3)
    | ANYTHING
)
BODIES = (
    strategies.fixed_dictionaries({'events': BATCHES})
    | strategies.fixed_dictionaries({'events': BATCHES})
    | strategies.fixed_dictionaries({'events': BATCHES, 'more': ANYTHING})
    | ANYTHING
    | BATCHES.map(lambda v: v)
)


class BothValidatorsTest(base.TestCase):
    """The fast validator accepts no body that the other one refuses, and all bodies of the usual form."""

    def is_valid(self, body: Any) -> bool:
        return schemas._is_valid(body, events.names_at((2, 1)), True)

    def test_usual_bodies(self) -> None:
        whole = {**EVENT, 'tag': 'port', 'status': 'failed'}
        for body in (
            {'events': [EVENT, whole]},
            {'events': [{**whole, 'tag': 't' * 255}]},
            {'events': [{**whole, 'tag': '\U0001f600' * 255}]},
        ):
            self.assertTrue(self.is_valid(body), body)

    def test_other_bodies(self) -> None:
        odd_members: list[dict[str, Any]] = [
            *({'more': 'x'}, {'name': 'power-update'}, {'name': 1}, {'name': []}, {'server_uuid': 1}),
            *({'server_uuid': f'{SERVER}\n'}, {'tag': 't' * 256}, {'tag': '\ud800' * 256}),
            *({'tag': ['t']}, {'tag': None}, {'status': 'Failed'}, {'status': ['failed']}),
            *({'server_uuid': '\ud800'}, {'name': '\udfff'}, {'\ud800': 1}, {'tag': 10**400}),
        ]
        for odd in odd_members:
            self.assertFalse(self.is_valid({'events': [EVENT, {**EVENT, **odd}]}), odd)
        for body in ([], None, {}, {'events': []}, {'events': {}}, {'events': [None]}):
            self.assertFalse(self.is_valid(body), body)

    def test_nested_deeply(self) -> None:
        nested: Any = []
        for _ in range(10_000):
            nested = [nested]
        names = events.names_at((2, 1))
        body = {'events': [{**EVENT, 'more': nested}]}
        self.assertEqual(
            (False, True), tuple(schemas._is_valid(body, names, strict) for strict in (True, False))
        )

    def test_result_is_equal_to_the_result_of_the_schema(self) -> None:
        seen = set()

        @generated.examples(300)
        @hypothesis.given(BODIES, strategies.sampled_from([(2, 1), (2, 76), (2, 104)]), strategies.booleans())
        def as_the_schema_says(body: Any, version: events.Microversion, strict: bool) -> None:
            names = events.names_at(version)
            valid = schemas._validator(names, strict).is_valid(body)
            self.assertEqual(valid, problem(body, version, strict=strict) is None)
            seen.add((valid, schemas._is_valid(body, names, strict)))

        as_the_schema_says()
        self.assertEqual({(True, True), (True, False), (False, False)}, seen)
