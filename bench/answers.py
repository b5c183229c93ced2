"""Is an answer right? So many events as were posted, in their order, each with the code expected of it."""

from __future__ import annotations

import collections
import dataclasses
import json
import uuid

#: What Neutron posts most; it has a tag, by which an answer out of its place is seen.
NAME = 'network-vif-plugged'

DELIVERED = 200

#: A header that tells one request from another, as OpenStack's services send it.
#: Events of two requests are never taken for the same.
REQUEST_ID = 'X-OpenStack-Request-ID'


@dataclasses.dataclass(frozen=True)
class Posted:
    """An event as it is posted, made ready once.

    :ivar text: its JSON
    :ivar answer: what must come back for it
    """

    text: bytes
    answer: dict[str, object]


def make(servers, rnd, *, name=NAME):
    """An event of each server, in random order, each with a tag of its own.

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
    """The body of a request that posts some events."""
    return b'{"events": [' + b', '.join([event.text for event in batch]) + b']}'


@dataclasses.dataclass
class Checked:
    """What an answer amounts to.

    :ivar codes: how many events have which code
    :ivar problem: what is wrong with it, in a word or two; None: nothing
    """

    codes: collections.Counter[int]
    problem: str | None = None


def check(status, text, batch):
    """Hold an answer against what was posted.

    :param status: of HTTP
    :param text: its body
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
    # More members than ours has are the answerer's own matter.
    return Checked(codes)
