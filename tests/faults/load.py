"""Steady load: senders that post the events of their servers one after the other.

Half of the senders give up when a connection is lost, like Cinder and Ironic; the other half
posts the same batch again with the same request id, like Neutron. The :class:`Book`
stores the answers, and the events that the agents recorded: the input of
the ``ledger``.
"""

from __future__ import annotations

import collections
import json
import pathlib
import random
import threading
import time
import uuid

import requests

from tests.faults import ledger

#: Number of events of a batch: usually small, as for the real senders.
BATCH_SIZES = (1, 1, 2, 3, 5, 8)

#: Seconds between two batches of a sender.
PAUSE = 0.35

NAMES = ('network-changed', 'network-vif-plugged', 'network-vif-unplugged')

#: Seconds until a sender gives up; much longer than every time limit of the service.
TIMEOUT = 30.0

#: Number of times that a batch is posted again, and the seconds before each.
REPEATS, REPEAT_PAUSE = 4, 0.5


class Book:
    """The answers and the handled events. Thread-safe.

    :ivar places: server to its hosts over time
    """

    def __init__(self, path: pathlib.Path):
        """:param path: the file that the agents write"""
        self._path = path
        # Guards the following attributes.
        self._lock = threading.Lock()
        self._offset = 0
        self._answered: list[ledger.Answered] = []
        self._handled: list[ledger.Handled] = []
        self._sequences: collections.Counter[str] = collections.Counter()
        self._begun: set[str] = set()
        self.places: dict[str, list[ledger.Placed]] = collections.defaultdict(list)

    def place(self, server, hosts):
        """Record the hosts of a server from now on."""
        with self._lock:
            self.places[server].append(ledger.Placed(frozenset(hosts), time.monotonic()))

    def next_event(self, server, name):
        """Return a new event of a server in its posted form, and its sequence number."""
        with self._lock:
            self._sequences[server] += 1
            sequence = self._sequences[server]
            tag = f'{server[:8]}.{sequence}'
            self._begun.add(tag)
        return {'name': name, 'server_uuid': server, 'tag': tag}, sequence

    def add(self, answered):
        """Record the answers that senders received."""
        with self._lock:
            self._answered += answered

    def answered(self, since=0.0, until=float('inf')):
        """The answers for the events that were sent in a period."""
        with self._lock:
            return [each for each in self._answered if since <= each.sent < until]

    def begun(self):
        """Tags of all posted events, with or without an answer."""
        with self._lock:
            return set(self._begun)

    def handled(self):
        """The events that the agents have recorded until now."""
        with self._lock:
            with open(self._path, 'rb') as file:
                file.seek(self._offset)
                lines = file.read()
            complete = lines[: lines.rfind(b'\n') + 1]
            self._offset += len(complete)
            self._handled += [ledger.Handled.from_line(json.loads(line)) for line in complete.splitlines()]
            return list(self._handled)


class Poster:
    """Posts batches and records the answers; for one thread."""

    def __init__(self, url, book, *, stall_monitor, repeats=0):
        """:param stall_monitor: measures the time in which the machine stalled
        :param repeats: how often a batch is posted again after a lost connection
        """
        self._stall_monitor = stall_monitor
        self._url = f'{url}/v2.1/os-server-external-events'
        self._book = book
        self._repeats = repeats
        self._session = requests.Session()

    def post(self, servers, names=NAMES[:1]):
        """Post an event of each server, in one batch.

        :returns: the answer for each event
        """
        begun = [
            self._book.next_event(server, names[number % len(names)]) for number, server in enumerate(servers)
        ]
        sent = time.monotonic()
        codes, took, stalled = self._answers_of([event for event, _ in begun])
        now = time.monotonic()
        answered = [
            ledger.Answered(event['tag'], event['server_uuid'], sequence, code, sent, now, took, stalled)
            for (event, sequence), code in zip(begun, codes, strict=True)
        ]
        self._book.add(answered)
        return answered

    def _answers_of(self, batch):
        request_id = f'req-{uuid.uuid4()}'
        longest = stalled = 0.0
        for attempt in range(1 + self._repeats):
            if attempt:
                time.sleep(REPEAT_PAUSE)
            began = time.monotonic()
            codes = self._codes(batch, request_id)
            ended = time.monotonic()
            if ended - began > longest:
                longest, stalled = ended - began, self._stall_monitor.between(began, ended)
            if codes:
                return codes, longest, stalled
        return [ledger.BROKEN] * len(batch), longest, stalled

    def _codes(self, batch, request_id):
        try:
            answer = self._session.post(
                self._url,
                json={'events': batch},
                headers={'X-OpenStack-Request-ID': request_id},
                timeout=TIMEOUT,
            )
        except requests.RequestException:
            return None
        if answer.status_code not in (200, 207):
            return [answer.status_code] * len(batch)
        return [event['code'] for event in answer.json()['events']]


class Sender(threading.Thread):
    """Posts events of its own servers until it is stopped."""

    def __init__(self, poster, servers, *, seed, stop, pause=PAUSE, sizes=BATCH_SIZES):
        """:param pause: seconds between two batches
        :param sizes: possible numbers of events of a batch
        """
        super().__init__(name=f'sender-{seed}', daemon=True)
        self._poster = poster
        self._servers = servers
        self._rnd = random.Random(seed)
        self._stop_event = stop
        self._pause = pause
        self._sizes = sizes

    def run(self):
        while not self._stop_event.wait(self._rnd.uniform(0.5, 1.5) * self._pause):
            servers = self._rnd.choices(self._servers, k=self._rnd.choice(self._sizes))
            self._poster.post(servers, self._rnd.sample(NAMES, len(NAMES)))
