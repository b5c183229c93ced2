"""Every metric of the service: name, help, labels with their values, and the roles that report it.

Label values are closed sets, so that the number of series does not depend on the cloud. Servers, tags,
hosts and requests are never labels.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import enum
import itertools

from external_events_router import events

#: Values of the labels of a series, in the order of the labels.
LabelValues = tuple[str, ...]


class Role(enum.StrEnum):
    """A part of the service; a process has one or more."""

    API = 'api'
    RESOLVER = 'resolver'
    AGENT = 'agent'


class Kind(enum.StrEnum):
    """The type of a metric."""

    COUNTER = 'counter'
    GAUGE = 'gauge'
    HISTOGRAM = 'histogram'


class Mode(enum.StrEnum):
    """How the gauges of several processes are merged; prometheus-client defines the names.

    A ``live`` gauge ends with its process. A gauge with ``max`` remains; it is for times that only increase.
    """

    MAX = 'max'
    LIVE_MAX = 'livemax'
    LIVE_MIN = 'livemin'


EVERY_ROLE = frozenset(Role)
API = frozenset({Role.API})
RESOLVER = frozenset({Role.RESOLVER})
AGENT = frozenset({Role.AGENT})

#: HTTP statuses that have a separate series.
STATUSES = (
    *('200', '207', '300', '400', '401', '403', '404', '405', '406', '411', '413', '415'),
    *('431', '500', '501', '503'),
)
OTHER = 'other'

#: Event name to the service whose source code sends it.
SENDER_OF_NAME: Mapping[str, str] = {
    'network-changed': 'neutron',
    'network-vif-plugged': 'neutron',
    'network-vif-unplugged': 'neutron',
    'network-vif-deleted': 'neutron',
    'volume-extended': 'cinder',
    'volume-reimaged': 'cinder',
    'power-update': 'ironic',
    'accelerator-request-bound': 'cyborg',
}
SENDERS = ('neutron', 'cinder', 'ironic', 'cyborg', OTHER)

PATHS = ('direct', 'held')
RESULTS = ('handled', 'not_here', 'refused', 'no_answer', 'not_sent')
LOOKUPS = ('complete', 'cached', 'failed')
HOLDS = ('held', 'failed')
ENDS = ('delivered', 'expired', 'refused', 'gone', 'damaged')
HELD_STATES = ('held', 'expired', 'refused', 'gone', 'damaged')
CHANGES = ('opened', 'closed')
AGENT_RESULTS = ('handled', 'not_here', 'refused', 'repeated', 'late', 'without_room', 'failed')
REPORTS = ('accepted', 'failed')

#: Kinds of rejected items (see ``rejected``); any other kind counts as ``other``.
REJECTED = (
    *('acknowledgement', 'acknowledgement of another host', 'delivery', 'event', 'held event', 'host name'),
    *('message', 'message to send', 'result', 'server uuid', OTHER),
)

#: Upper bounds in seconds. The first end of a wait for hosts is 0.1 s before ``[delivery] ack_timeout``
#: (2 s), and the last answer a second after it.
ANSWER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0)
#: The same for periods that may be as long as the lifetime of a held event.
DELIVERY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
LOOKUP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5)


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    :ivar help: a sentence, which is exported and documented
    :ivar roles: the roles of the processes that report it
    :ivar labels: label to its values
    :ivar buckets: upper bounds of the buckets of a histogram, without infinity
    :ivar mode: how stored gauges are merged; None: not a gauge, or determined by the exporter at each read
    """

    name: str
    kind: Kind
    help: str
    roles: frozenset[Role]
    labels: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    buckets: tuple[float, ...] = ()
    mode: Mode | None = None

    def series(self) -> Iterator[LabelValues]:
        """Return the label values of every series."""
        return itertools.product(*self.labels.values())


def _counter(name: str, text: str, roles: frozenset[Role], **labels: tuple[str, ...]) -> Metric:
    return Metric(f'external_events_{name}_total', Kind.COUNTER, text, roles, labels)


def _histogram(
    name: str, text: str, roles: frozenset[Role], buckets: tuple[float, ...], **labels: tuple[str, ...]
) -> Metric:
    return Metric(f'external_events_{name}', Kind.HISTOGRAM, text, roles, labels, buckets)


def _gauge(name: str, text: str, roles: frozenset[Role], mode: Mode, **labels: tuple[str, ...]) -> Metric:
    return Metric(f'external_events_{name}', Kind.GAUGE, text, roles, labels, mode=mode)


REQUESTS = _counter(
    'requests', 'Requests to the API by HTTP status, without health checks.', API, status=(*STATUSES, OTHER)
)
REQUEST_SECONDS = _histogram(
    'request_seconds',
    'Seconds from the start of a batch in the API until its answer.',
    API,
    ANSWER_BUCKETS,
)
EVENTS = Metric(
    'external_events_total',
    Kind.COUNTER,
    'Events that the API has answered, by name and code.',
    API,
    {'name': tuple(events.EVENT_TYPES), 'code': tuple(str(int(code)) for code in events.Code)},
)
SENDER_POSTS = _counter('sender_posts', 'Batches by the service that sent them.', API, sender=SENDERS)
SENDER_LAST_POST = _gauge(
    'sender_last_post_timestamp_seconds',
    'Time of the last batch of a sender, seconds since the epoch; 0 if no batch arrived since the files '
    'were created.',
    API,
    Mode.MAX,
    sender=SENDERS,
)
DELIVERY_SECONDS = _histogram(
    'delivery_seconds',
    'Seconds from the start of an event in the resolver until all its hosts have acknowledged it. '
    'Path held: it was held first.',
    RESOLVER,
    DELIVERY_BUCKETS,
    path=PATHS,
)
ACK_SECONDS = _histogram(
    'ack_seconds',
    'Seconds from the casts of a batch (path direct) or of a redelivery (path held) until their end: '
    'all hosts have acknowledged, or the wait for them has ended.',
    RESOLVER,
    ANSWER_BUCKETS,
    path=PATHS,
)
DELIVERIES = _counter(
    'deliveries',
    'Results of sending one event to one host: handled, not_here (the host does not have the server), '
    'refused, no_answer (no acknowledgement in time), not_sent (the broker did not accept it).',
    RESOLVER,
    path=PATHS,
    result=RESULTS,
)
LOOKUP_SECONDS = _histogram(
    'lookup_seconds', 'Seconds that a look-up of the hosts of a batch took.', RESOLVER, LOOKUP_BUCKETS
)
LOOKUPS_DONE = _counter(
    'lookups',
    'Look-ups of the hosts of a batch: complete (from the source), cached (the source failed, and all '
    'servers were in the cache) or failed (a server could not be looked up).',
    RESOLVER,
    result=LOOKUPS,
)
HOLDS_DONE = _counter(
    'hold',
    'Events that were to be held: held (stored in the database, code 200) or failed (code 503).',
    RESOLVER,
    result=HOLDS,
)
ENDED = _counter('ended', 'Held events that have ended, by their state.', RESOLVER, state=ENDS)
BREAKERS_OPEN = _gauge(
    'breakers_open',
    'Hosts whose circuit breaker is open: batches do not wait for them. The largest number of any worker.',
    RESOLVER,
    Mode.LIVE_MAX,
)
HOSTS_KNOWN = _gauge(
    'hosts_known',
    'Hosts that sent a worker a message in the last hour, or whose circuit breaker is open. The largest '
    'number of any worker.',
    RESOLVER,
    Mode.LIVE_MAX,
)
BREAKER_CHANGES = _counter(
    'breaker_changes', 'Circuit breakers that were opened and closed.', RESOLVER, change=CHANGES
)
BROKER_UP = _gauge(
    'broker_up',
    '1 if every worker has its connections to the message broker, 0 if a worker has lost one. A broker '
    'that oslo.messaging casts to counts as lost for 5 minutes after a cast that failed.',
    EVERY_ROLE,
    Mode.LIVE_MIN,
)
BROKER_BLOCKED = _gauge(
    'broker_blocked',
    '1 if the broker blocks the messages of a worker (alarm for memory or disk space).',
    EVERY_ROLE,
    Mode.LIVE_MAX,
)
BROKER_LOSSES = _counter(
    'broker_losses', 'Times that a worker has lost its connections to the broker.', EVERY_ROLE
)
JOURNAL_ROWS = _counter('journal_rows', 'Rows that were written to the journal.', API | RESOLVER)
JOURNAL_DROPPED = _counter(
    'journal_dropped',
    'Rows that are missing in the journal, because it could not be written.',
    API | RESOLVER,
)
REJECTED_ITEMS = _counter(
    'rejected', 'Invalid items in messages, databases and files, by kind.', EVERY_ROLE, kind=REJECTED
)
WORKER_STARTS = _counter('worker_starts', 'Starts of worker processes.', EVERY_ROLE)
DAMAGED_FILES = _counter(
    'metrics_damaged_files',
    'Metrics files that were damaged when a worker started; their counters began again with 0.',
    EVERY_ROLE,
)
AGENT_EVENTS = _counter(
    'agent_events',
    'Events that the agent has received: handled, not_here, refused, repeated (handled before), late '
    '(after their deadline), without_room (too many waiting) or failed.',
    AGENT,
    result=AGENT_RESULTS,
)
AGENT_SECONDS = _histogram(
    'agent_delivery_seconds',
    'Seconds from the arrival of a delivery at the agent until all its events have ended.',
    AGENT,
    ANSWER_BUCKETS,
)
AGENT_REPORTS = _counter('agent_reports', 'Reports of the agent to the resolvers.', AGENT, result=REPORTS)

#: The metrics whose values processes store in their files.
STORED = (
    *(REQUESTS, REQUEST_SECONDS, EVENTS, SENDER_POSTS, SENDER_LAST_POST),
    *(DELIVERY_SECONDS, ACK_SECONDS, DELIVERIES, LOOKUP_SECONDS, LOOKUPS_DONE),
    *(HOLDS_DONE, ENDED, BREAKERS_OPEN, HOSTS_KNOWN, BREAKER_CHANGES),
    *(BROKER_UP, BROKER_BLOCKED, BROKER_LOSSES, JOURNAL_ROWS, JOURNAL_DROPPED, REJECTED_ITEMS),
    *(WORKER_STARTS, DAMAGED_FILES, AGENT_EVENTS, AGENT_SECONDS, AGENT_REPORTS),
)

HELD = Metric(
    'external_events_held',
    Kind.GAUGE,
    'Events in the database by state: held, or ended without all acknowledgements. Every service that '
    'reads the same database reports the same numbers.',
    RESOLVER,
    {'state': HELD_STATES},
)
HELD_OLDEST = Metric(
    'external_events_held_oldest_seconds',
    Kind.GAUGE,
    'Age of the oldest held event in seconds; 0 if no event is held.',
    RESOLVER,
)
DATABASE_UP = Metric(
    'external_events_database_up',
    Kind.GAUGE,
    '1 if the numbers of held events could be read from the database, else 0.',
    RESOLVER,
)
ACK_TIMEOUT = Metric(
    'external_events_ack_timeout_seconds',
    Kind.GAUGE,
    'Value of [delivery] ack_timeout.',
    API | RESOLVER,
)
WORKERS = Metric('external_events_workers', Kind.GAUGE, 'Running worker processes.', EVERY_ROLE)
WORKERS_CONFIGURED = Metric(
    'external_events_workers_configured',
    Kind.GAUGE,
    'Configured number of worker processes.',
    EVERY_ROLE,
)
FILES_UNREADABLE = Metric(
    'external_events_metrics_unreadable_files',
    Kind.GAUGE,
    'Damaged metrics files, which are left out of the sums.',
    EVERY_ROLE,
)
CERTIFICATE_EXPIRY = Metric(
    'external_events_certificate_expiry_timestamp_seconds',
    Kind.GAUGE,
    'Time at which the first certificate in the file of an option expires, seconds since the epoch.',
    EVERY_ROLE,
    {'option': ()},
)
BUILD_INFO = Metric(
    'external_events_build_info',
    Kind.GAUGE,
    'Always 1; the label has the release.',
    EVERY_ROLE,
    {'version': ()},
)

#: Metrics of each worker process, labelled by its slot. Client libraries of Prometheus use these names.
PROCESSES = tuple(
    Metric(f'process_{name}', kind, text, EVERY_ROLE, {'slot': ()})
    for name, kind, text in (
        ('cpu_seconds_total', Kind.COUNTER, 'Processor time of the worker in seconds.'),
        ('resident_memory_bytes', Kind.GAUGE, 'Resident memory of the worker in bytes.'),
        ('virtual_memory_bytes', Kind.GAUGE, 'Virtual memory of the worker in bytes.'),
        ('open_fds', Kind.GAUGE, 'Open file descriptors of the worker.'),
        ('max_fds', Kind.GAUGE, 'Largest number of file descriptors that the worker may open.'),
        ('start_time_seconds', Kind.GAUGE, 'Start of the worker, seconds since the epoch.'),
    )
)

#: The metrics that the exporter determines at each read. A label without values here has values from the
#: configuration of the process.
READ = (
    *(HELD, HELD_OLDEST, DATABASE_UP, ACK_TIMEOUT, WORKERS, WORKERS_CONFIGURED),
    *(FILES_UNREADABLE, CERTIFICATE_EXPIRY, BUILD_INFO, *PROCESSES),
)

ALL = (*STORED, *READ)


def stored(roles: Collection[Role]) -> tuple[Metric, ...]:
    """Return the metrics that a process with these roles stores."""
    return tuple(metric for metric in STORED if not metric.roles.isdisjoint(roles))
