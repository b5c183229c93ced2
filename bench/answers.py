"""Check of an answer: as many events as were posted, in their order, each with the expected code."""

from __future__ import annotations

import collections
import dataclasses
import json
import uuid

#: The most frequent event of Neutron. Its tag shows whether an answer is in the wrong place.
NAME = 'network-vif-plugged'

DELIVERED = 200

#: The header that distinguishes requests, as OpenStack's services send it.
#: Events of two requests are never treated as the same event.
REQUEST_ID = 'X-OpenStack-Request-ID'


@dataclasses.dataclass(frozen=True)
class Posted:
    """An event that is posted, encoded once.

    :ivar text: its JSON
    :ivar answer: the expected answer
    """

    text: bytes
    answer: dict[str, object]


def make(servers, rnd, *, name=NAME):
    """Make an event of each server, in random order, each with a unique tag.

    :param rnd: a ``random.Random``
    """
    events = []
    for server in servers:
        event = {'name': name, 'server_uuid': server, 'tag': str(uuid.UUID(int=rnd.getrandbits(128)))}
        answer = {**event, 'status': 'completed', 'code': DELIVERED}
        events.append(Posted(json.dumps(event).encode(), answer))
    rnd.shuffle(events)
    return events


def body(batch):
    """The body of a request with some events."""
    return b'{"events": [' + b', '.join([event.text for event in batch]) + b']}'


@dataclasses.dataclass
class Checked:
    """The result of the check of an answer.

    :ivar codes: code to the number of its events
    :ivar problem: a short description of the problem; None: no problem
    """

    codes: collections.Counter[int]
    problem: str | None = None


def check(status, text, batch):
    """Compare an answer with the posted events.

    :param status: of the HTTP response
    :param text: the body of the response
    """
    try:
        document = json.loads(text)
        answered = document['events']
        expected = [event.answer for event in batch]
        if status == 200 and answered == expected:
            return Checked(collections.Counter({DELIVERED: len(batch)}))
        return _not_as_expected(status, answered, expected)
    except (ValueError, KeyError, TypeError):
        return Checked(collections.Counter(), f'status {status}, no events in it')


def _not_as_expected(status, answered, expected):
    codes = collections.Counter(event['code'] for event in answered)
    if len(answered) != len(expected):
        return Checked(codes, f'{len(answered)} answers to {len(expected)} events')
    places = [(event['name'], event['server_uuid'], event.get('tag')) for event in answered]
    if places != [(event['name'], event['server_uuid'], event['tag']) for event in expected]:
        return Checked(codes, 'another order')
    if codes.keys() != {DELIVERED}:
        return Checked(codes, f'codes {", ".join(map(str, sorted(codes)))}')
    if status != 200:
        return Checked(codes, f'status {status} though every code is {DELIVERED}')
    if any(event['status'] != 'completed' for event in answered):
        return Checked(codes, 'a status that is not completed')
    # An answer may have more members than the answer of the service.
    return Checked(codes)
