"""The rows of the journal, as readers get them.

All times are integers: microseconds since the epoch by the clock of the database. Durations
are milliseconds. An event, a step and a refusal are identified by (time, worker, seq): the
incarnation of a worker, and its number among all records of this incarnation.
"""

from __future__ import annotations

import dataclasses

from external_events_router import events
from external_events_router.journal import reasons

#: Microseconds of a second and of the periods by which the indexes are ordered.
SECOND = 1_000_000
HOUR = 3600 * SECOND

#: Servers, and names of events, of a refused request that are recorded.
MAX_NAMED = 20


#: The report of the agent about one event.
Handling = events.Handling


@dataclasses.dataclass(frozen=True, slots=True)
class RequestRow:
    """A request that was routed: a batch of events.

    :ivar seq: the number of its first event; its events have consecutive numbers
    :ivar events: number of its events
    :ivar request_id: the id of the router for the request
    :ivar global_request_id: the id of the sender
    :ivar duration_ms: until the answer
    """

    received_at: int
    worker: int
    seq: int
    events: int
    request_id: str | None
    global_request_id: str | None
    user_id: str | None
    project_id: str | None
    duration_ms: int


@dataclasses.dataclass(frozen=True, slots=True)
class EventRow:
    """An event that was routed, and the result in its answer.

    :ivar received_at: when a resolver received its batch
    :ivar event_id: the same for a repeated request and for a replay
    :ivar tag: for network events, the port
    :ivar code: in the answer
    :ivar detail: ``reason`` in words
    :ivar hosts: where the server was; the event was sent to these, unless ``reason`` states
        otherwise
    :ivar ack_ms: from the start of the batch until the last acknowledgement; None: not all
        hosts acknowledged
    :ivar handling: the report of the agent; None: there is no report (nova-compute, or an older agent)
    :ivar replayed: an operator had it sent again
    :ivar request: None: it is not in the journal
    """

    received_at: int
    worker: int
    seq: int
    event_id: str
    server_uuid: str
    name: str
    tag: str | None
    status: str
    code: int
    reason: reasons.Reason
    detail: str | None
    hosts: tuple[str, ...]
    ack_ms: int | None
    handling: Handling | None
    replayed: bool
    request: RequestRow | None


@dataclasses.dataclass(frozen=True, slots=True)
class StepRow:
    """What happened to an event after the answer.

    :ivar host: None: the step concerns no single host
    :ivar detail: the reason in words
    :ivar attempt: the number of the attempt, from 1; None: the step is no attempt
    :ivar actor: the worker or the operator
    :ivar handling: as in :class:`EventRow`
    """

    at: int
    worker: int
    seq: int
    event_id: str
    server_uuid: str
    kind: reasons.Step
    host: str | None
    detail: str | None
    attempt: int | None
    actor: str | None
    handling: Handling | None


@dataclasses.dataclass(frozen=True, slots=True)
class RefusalRow:
    """A request that was refused as a whole, or that the API could not route.

    :ivar status: HTTP status of the answer
    :ivar user_name: empty for a sender that did not authenticate
    :ivar address: the address of the client
    :ivar reason: the cause
    :ivar detail: the message to the sender
    :ivar suppressed: further refusals of this kind of this sender whose servers are not recorded
    :ivar servers: uuids in the body, as far as it was parsed; at most :data:`MAX_NAMED`
    :ivar names: names of the events in the body, likewise
    """

    at: int
    worker: int
    seq: int
    status: int
    reason: reasons.Refusal
    detail: str
    user_id: str | None
    user_name: str | None
    project_id: str | None
    address: str | None
    request_id: str | None
    global_request_id: str | None
    suppressed: int
    servers: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def states_all_servers(self) -> bool:
        """Whether a server that is not in ``servers`` was certainly not in the request."""
        # NOTE: the body may contain a text that was meant as the uuid of the server.
        are_uuids = all(events.canonical_uuid(server) == server for server in self.servers)
        return 0 < len(self.servers) < MAX_NAMED and are_uuids and not self.suppressed

    def is_about(self, server_uuid: str, name: str | None) -> bool:
        """Return whether the request had events of a server.

        :param name: the name of the events; None: any
        """
        named = name is None or name in self.names or len(self.names) in (0, MAX_NAMED)
        return named and server_uuid in self.servers


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerRow:
    """A resolver worker, from one start to its end.

    :ivar id: number of the incarnation
    :ivar name: ``<host>:<slot>``; the next incarnation has the same name
    :ivar service: the process: ``external-events-api``, ``external-events-resolver``, ...
    :ivar record: its ``[journal] record``
    :ivar last_seen_at: when it last wrote
    :ivar written_until: all its records of requests that arrived before this time are in the
        journal, or in a gap
    :ivar stopped_at: None: it runs, or was killed and this has not been noticed
    :ivar killed: it ended without a stop
    :ivar written: number of event rows that it has written
    :ivar dropped: number of records that it could not write
    """

    id: int
    name: str
    service: str
    host: str
    pid: int
    record: str
    started_at: int
    last_seen_at: int
    written_until: int
    stopped_at: int | None
    killed: bool
    written_seq: int
    written: int
    dropped: int


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """A period for which records of a worker are missing, or may be.

    :ivar worker: the number of the worker; None: the gap does not concern a single worker
    :ivar worker_name: the name of the worker, ``<host>:<slot>``
    :ivar from_seq: the number of the first missing record; None: not known
    :ivar to_seq: the number of the last missing record; None: not known
    :ivar missing: number of missing records; None: not known
    """

    worker: int | None
    worker_name: str | None
    reason: reasons.GapReason
    from_at: int
    to_at: int
    from_seq: int | None
    to_seq: int | None
    missing: int | None
