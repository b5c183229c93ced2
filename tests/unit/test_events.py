"""The table of event names, serialization, and the ids that make a retry safe."""

from __future__ import annotations

import json
import uuid

import hypothesis
from hypothesis import strategies

from external_events_router import checks
from external_events_router import events
from external_events_router import exceptions
from tests import base

SERVER = '5bb6d8f4-5a5d-4c5c-9a3c-8a7c1d0a5a01'
REQUEST = 'req-7f2e1f6e-0b8a-4f57-8a54-0a3c6f7f0001'

_text = strategies.text(max_size=40)
_events = strategies.builds(
    events.Event,
    name=strategies.sampled_from(sorted(events.EVENT_TYPES)),
    server_uuid=strategies.uuids().map(str),
    tag=strategies.none() | _text,
    status=strategies.sampled_from(events.STATUSES),
    id=strategies.uuids().map(str),
)


def plugged(tag: str | None = 'port', **kwargs: str) -> events.Event:
    return events.Event('network-vif-plugged', SERVER, tag, **kwargs)


class HandlingTest(base.TestCase):
    """What agents report about the handling of an event; older agents and routers do not know it."""

    def taken(self, **members: object) -> events.Handling | None:
        data = {'event_id': 'e', 'verdict': 'handled', 'reason': None, **members}
        return events.Result.from_dict(data, details=True).handling

    def test_round_trip(self) -> None:
        for handling in (
            events.NOT_HANDLED,
            events.Handling(True, 0),
            events.Handling(True, 1200, 'log', 3),
            events.Handling(False, -300),
            events.Handling(False, None, 'exec', 12),
        ):
            result = events.Result('e', events.Verdict.HANDLED, handling=handling)
            sent = events.Acknowledgement('d', 'host-a', (result,))
            wire = json.loads(json.dumps(sent.to_dict()))
            self.assertEqual(sent, events.Acknowledgement.from_dict(wire))

    def test_event_without_waiter_and_handler_has_no_further_members(self) -> None:
        result = events.Result('e', events.Verdict.HANDLED, handling=events.NOT_HANDLED)
        self.assertEqual({'event_id', 'verdict', 'reason'}, set(result.to_dict()))

    def test_older_agent_reports_nothing(self) -> None:
        result = events.Result('e', events.Verdict.HANDLED)
        wire = events.Acknowledgement('d', 'host-a', (result,)).to_dict()
        self.assertEqual({'delivery_id', 'host', 'results'}, set(wire))
        self.assertIsNone(events.Acknowledgement.from_dict(wire).results[0].handling)

    def test_invalid_members_are_ignored(self) -> None:
        for value in (-1, 2**31, True, 1.5, '1', None, [1]):
            self.assertEqual(events.NOT_HANDLED, self.taken(waited_ms=value, wait_ended_ms=value))
            self.assertEqual(events.Handling(False, None, 'h'), self.taken(handler='h', handler_ms=value))
        self.assertEqual(events.NOT_HANDLED, self.taken(handler=['x'], handler_ms=1))
        handling = self.taken(handler='h\n' + 'x' * 100)
        assert handling is not None and handling.handler is not None
        self.assertEqual('h?' + 'x' * 62, handling.handler)


class TableTest(base.TestCase):
    def test_names_have_their_microversions(self) -> None:
        first = ('network-changed', 'network-vif-plugged', 'network-vif-unplugged', 'network-vif-deleted')
        self.assertEqual(first, events.names_at((2, 1)))
        self.assertEqual(first, events.names_at((2, 50)))
        added = {
            (2, 51): 'volume-extended',
            (2, 76): 'power-update',
            (2, 82): 'accelerator-request-bound',
            (2, 93): 'volume-reimaged',
        }
        for (major, minor), name in added.items():
            self.assertNotIn(name, events.names_at((major, minor - 1)))
            self.assertEqual(name, events.names_at((major, minor))[-1])
        self.assertEqual(tuple(events.EVENT_TYPES), events.names_at(events.MAX_MICROVERSION))

    def test_keys_are_the_names(self) -> None:
        self.assertEqual(list(events.EVENT_TYPES), [kind.name for kind in events.EVENT_TYPES.values()])


class TagTest(base.TestCase):
    def test_required_tag_is_missing(self) -> None:
        for name in ('volume-extended', 'accelerator-request-bound', 'power-update'):
            self.assertEqual(f'{name} needs a tag', events.tag_problem(events.Event(name, SERVER)))

    def test_invalid_tag(self) -> None:
        problem = events.tag_problem(events.Event('power-update', SERVER, 'REBOOT'))
        self.assertEqual('the tag of power-update must be one of POWER_ON, POWER_OFF', problem)

    def test_valid_tags(self) -> None:
        for name, tag in (
            ('power-update', 'POWER_ON'),
            ('power-update', 'POWER_OFF'),
            ('volume-extended', 'a-volume'),
            ('network-changed', None),
            ('network-vif-plugged', ''),
        ):
            self.assertIsNone(events.tag_problem(events.Event(name, SERVER, tag)))


class RoundTripTest(base.TestCase):
    @hypothesis.given(_events)
    def test_event(self, event: events.Event) -> None:
        self.assertEqual(event, events.Event.from_dict(json.loads(json.dumps(event.to_dict()))))

    @hypothesis.given(_events, strategies.sampled_from(events.Code), strategies.none() | _text)
    def test_outcome(self, event: events.Event, code: events.Code, reason: str | None) -> None:
        outcome = events.Outcome(event, code, reason)
        self.assertEqual(outcome, events.Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))))

    @hypothesis.given(
        strategies.from_regex('[0-9a-f-]{1,64}', fullmatch=True),
        strategies.sampled_from(events.Verdict),
        strategies.none() | _text.map(checks.clean_text),
    )
    def test_result(self, event_id: str, verdict: events.Verdict, reason: str | None) -> None:
        result = events.Result(event_id, verdict, reason)
        self.assertEqual(result, events.Result.from_dict(json.loads(json.dumps(result.to_dict()))))

    def test_event_with_a_missing_member_or_another_type(self) -> None:
        good = plugged().to_dict()
        for member in ('id', 'name', 'server_uuid', 'status'):
            self.assertRaises(exceptions.MalformedMessage, events.Event.from_dict, {**good, member: None})
            self.assertRaises(
                exceptions.MalformedMessage,
                events.Event.from_dict,
                {key: value for key, value in good.items() if key != member},
            )
        self.assertRaises(exceptions.MalformedMessage, events.Event.from_dict, {**good, 'tag': 7})

    def test_malformed_outcome(self) -> None:
        good = events.Outcome(plugged(), events.Code.DELIVERED).to_dict()
        for bad in ({**good, 'code': 201}, {**good, 'event': {}}, {**good, 'event': 'x'}, {'code': 200}, {}):
            self.assertRaises(exceptions.MalformedMessage, events.Outcome.from_dict, bad)

    def test_malformed_result(self) -> None:
        good = events.Result('1', events.Verdict.HANDLED).to_dict()
        for bad in ({**good, 'verdict': 'perhaps'}, {'event_id': '1'}, {'verdict': 'handled'}, {}):
            self.assertRaises(exceptions.MalformedMessage, events.Result.from_dict, bad)


def submission(event: events.Event) -> dict[str, str]:
    """An event as its sender writes it: without an id, and without a tag if it has none."""
    members = {'name': event.name, 'server_uuid': event.server_uuid, 'status': event.status}
    return members if event.tag is None else {**members, 'tag': event.tag}


class IdentifyTest(base.TestCase):
    def ids(self, *batch: events.Event, request_id: str | None = REQUEST) -> list[str]:
        return [event.id for event in events.identify(map(submission, batch), request_id)]

    def test_repeated_batch_has_the_same_ids(self) -> None:
        self.assertEqual(self.ids(plugged('a'), plugged('b')), self.ids(plugged('a'), plugged('b')))

    def test_order_of_a_batch_does_not_change_its_ids(self) -> None:
        first = self.ids(plugged('a'), plugged('b'))
        self.assertEqual(first, self.ids(plugged('b'), plugged('a'))[::-1])

    def test_two_equal_events_of_a_batch_have_different_ids(self) -> None:
        first, second = self.ids(plugged(), plugged())
        self.assertNotEqual(first, second)

    def test_another_request_has_other_ids(self) -> None:
        self.assertNotEqual(self.ids(plugged()), self.ids(plugged(), request_id='req-2'))

    def test_ids_without_a_request_id_are_random(self) -> None:
        batch = [plugged(), plugged(), plugged('a', status='failed')]
        identified = events.identify(map(submission, batch), None)
        self.assertEqual(6, len({event.id for event in [*batch, *identified]}))
        for event, made in zip(batch, identified, strict=True):
            self.assertEqual({**event.to_dict(), 'id': made.id}, made.to_dict())

    def test_every_member_changes_the_id(self) -> None:
        other = str(uuid.UUID(int=1))
        different = (
            plugged('a'),
            plugged('b'),
            plugged(None),
            plugged(''),
            plugged('a', status='failed'),
            events.Event('network-vif-plugged', other, 'a'),
            events.Event('network-changed', SERVER, 'a'),
        )
        ids = [self.ids(event)[0] for event in different]
        self.assertEqual(len(different), len(set(ids)))

    def test_other_members_are_kept(self) -> None:
        event = plugged('a', status='failed')
        (identified,) = events.identify([submission(event)], REQUEST)
        self.assertEqual({**event.to_dict(), 'id': identified.id}, identified.to_dict())
        self.assertEqual(5, uuid.UUID(identified.id).version)

    @hypothesis.given(strategies.lists(_events, max_size=12), strategies.none() | _text)
    def test_ids_are_unique_in_any_batch(self, batch: list[events.Event], request_id: str | None) -> None:
        hypothesis.assume(request_id is not None or len({event.id for event in batch}) == len(batch))
        self.assertEqual(len(batch), len(set(self.ids(*batch, request_id=request_id))))

    def test_other_forms_of_a_submission_are_the_same_event(self) -> None:
        usual = {'name': 'network-changed', 'server_uuid': SERVER}
        other = {**usual, 'server_uuid': SERVER.upper(), 'status': 'completed'}
        (first,), (second,) = (events.identify([sent], REQUEST) for sent in (usual, other))
        self.assertEqual(first, second)
        self.assertEqual((SERVER, None, 'completed'), (first.server_uuid, first.tag, first.status))

    def test_a_lone_surrogate_in_a_tag(self) -> None:
        self.assertNotEqual(self.ids(plugged('\ud800')), self.ids(plugged('\ud801')))
