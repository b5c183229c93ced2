"""The panels of the dashboard: titles, units and queries, without the format of Grafana.

The dashboard is generated from them (``dashboard``), and the figures of the documentation are drawn from
them (``figures``).
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

#: Units as Grafana names them.
PER_SECOND, SECONDS, SHARE, COUNT, BYTES, STATE = 'ops', 's', 'percentunit', 'short', 'bytes', 'bool'

#: Window of rates: Grafana's variable, which is at least four scrape intervals.
RATE = '$__rate_interval'


@dataclasses.dataclass(frozen=True)
class Query:
    """One expression, and the name of its series with labels in double braces."""

    expression: str
    legend: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """One diagram.

    :ivar description: what to look for
    :ivar threshold: value from which on it is drawn red
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    stacked: bool = False
    threshold: float | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """Panels about one subject."""

    title: str
    panels: Sequence[Panel]


def rate(metric: str, by: str, matchers: str = '') -> str:
    """The rate of a counter, added up by labels."""
    return f'sum by ({by}) (rate(external_events_{metric}{{{matchers}}}[{RATE}]))'.replace('{}', '')


def quantiles(metric: str, matchers: str = '', *, name: str = '') -> list[Query]:
    """Three quantiles of a histogram."""
    buckets = f'sum by (le) (rate(external_events_{metric}_bucket{{{matchers}}}[{RATE}]))'.replace('{}', '')
    return [
        Query(f'histogram_quantile({share}, {buckets})', f'{name}p{share * 100:g}')
        for share in (0.5, 0.9, 0.99)
    ]


ROWS = (
    Row(
        'Summary',
        (
            Panel(
                'Events by code',
                'Events that the API has answered. 503 is a lost event, 404 and 422 are usual for servers '
                'that are being deleted.',
                PER_SECOND,
                [Query(rate('total', 'code'), '{{code}}')],
                stacked=True,
            ),
            Panel(
                'Share of events that are held',
                'Held events are delivered late. The share is close to 0 while all hosts respond.',
                SHARE,
                [
                    Query(
                        f'sum(rate(external_events_hold_total[{RATE}])) '
                        f'/ sum(rate(external_events_total[{RATE}]))',
                        'held',
                    )
                ],
                threshold=0.05,
            ),
            Panel(
                'Time until delivery',
                'From the start of an event until all its hosts have acknowledged it, including held events, '
                'and the time that a batch waits for its hosts ([delivery] ack_timeout).',
                SECONDS,
                [
                    *quantiles('delivery_seconds'),
                    Query('max(external_events_ack_timeout_seconds)', 'ack_timeout'),
                ],
            ),
            Panel(
                'Held events',
                'Events in the database that wait for their hosts, and that ended without acknowledgements.',
                COUNT,
                [Query('max by (state) (external_events_held)', '{{state}}')],
            ),
        ),
    ),
    Row(
        'API',
        (
            Panel(
                'Requests by status',
                '401 and 403: a sender has a wrong password or role. 503: Keystone does not answer, or '
                'the API is overloaded.',
                PER_SECOND,
                [Query(rate('requests_total', 'status'), '{{status}}')],
                stacked=True,
            ),
            Panel(
                'Time of an answer',
                'From the start of a batch in the API until its answer.',
                SECONDS,
                quantiles('request_seconds'),
            ),
            Panel(
                'Events by name',
                'Events that the senders report.',
                PER_SECOND,
                [Query(rate('total', 'name'), '{{name}}')],
                stacked=True,
            ),
            Panel(
                'Time since the last batch of a sender',
                'A sender that is silent for longer than usual may not reach the API.',
                SECONDS,
                [
                    Query(
                        'time() - max by (sender) (external_events_sender_last_post_timestamp_seconds > 0)',
                        '{{sender}}',
                    )
                ],
                threshold=3600.0,
            ),
            Panel(
                'Batches by sender',
                'Derived from the user and the names of the events.',
                PER_SECOND,
                [Query(rate('sender_posts_total', 'sender'), '{{sender}}')],
                stacked=True,
            ),
        ),
    ),
    Row(
        'Hosts',
        (
            Panel(
                'Results of hosts',
                'Results of sending one event to one host. no_answer: the host did not acknowledge in time. '
                'not_sent: the broker did not accept the message.',
                PER_SECOND,
                [Query(rate('deliveries_total', 'path, result'), '{{path}} {{result}}')],
            ),
            Panel(
                'Time of acknowledgements',
                'Seconds that a batch waits for its hosts.',
                SECONDS,
                quantiles('ack_seconds', 'path="direct"'),
            ),
            Panel(
                'Hosts that do not respond',
                'Hosts whose circuit breaker is open, and all hosts that workers know.',
                COUNT,
                [
                    Query('max(external_events_breakers_open)', 'circuit breaker open'),
                    Query('max(external_events_hosts_known)', 'known'),
                ],
            ),
            Panel(
                'Changes of circuit breakers',
                'Hosts that stopped to respond, and hosts that respond again.',
                PER_SECOND,
                [Query(rate('breaker_changes_total', 'change'), '{{change}}')],
            ),
        ),
    ),
    Row(
        'Held events',
        (
            Panel(
                'Age of the oldest held event',
                'An event expires after [delivery] event_ttl, 300 s by default.',
                SECONDS,
                [Query('max(external_events_held_oldest_seconds)', 'oldest')],
                threshold=120.0,
            ),
            Panel(
                'Holding',
                'failed: the database did not store the event, which was answered 503.',
                PER_SECOND,
                [Query(rate('hold_total', 'result'), '{{result}}')],
            ),
            Panel(
                'Ends of held events',
                'expired, refused, gone and damaged events were answered 200 and not delivered.',
                PER_SECOND,
                [Query(rate('ended_total', 'state'), '{{state}}')],
            ),
        ),
    ),
    Row(
        'Look-ups, broker, journal',
        (
            Panel(
                'Look-ups of hosts',
                'cached: the source failed, and the servers were in the cache. failed: answered 503.',
                PER_SECOND,
                [Query(rate('lookups_total', 'result'), '{{result}}')],
            ),
            Panel(
                'Time of a look-up',
                'Seconds until the hosts of a batch are known.',
                SECONDS,
                quantiles('lookup_seconds'),
            ),
            Panel(
                'Broker and database',
                '1: all workers have a connection, and nothing is blocked.',
                STATE,
                [
                    Query('min(external_events_broker_up)', 'broker connected'),
                    Query('1 - max(external_events_broker_blocked)', 'broker accepts messages'),
                    Query('min(external_events_database_up)', 'database'),
                ],
            ),
            Panel(
                'Losses of the broker',
                'Times that a worker lost its connections. A flapping network shows here.',
                PER_SECOND,
                [Query(rate('broker_losses_total', 'instance'), '{{instance}}')],
            ),
            Panel(
                'Journal',
                'Rows that were written, and rows that are missing because they could not be written.',
                PER_SECOND,
                [
                    Query(f'sum(rate(external_events_journal_rows_total[{RATE}]))', 'written'),
                    Query(f'sum(rate(external_events_journal_dropped_total[{RATE}]))', 'missing'),
                ],
            ),
            Panel(
                'Invalid items',
                'Messages, rows and files that were rejected.',
                PER_SECOND,
                [Query(rate('rejected_total', 'kind'), '{{kind}}')],
            ),
        ),
    ),
    Row(
        'Agents',
        (
            Panel(
                'Events at agents',
                'repeated: it was handled before. late, without_room, failed: the resolver sends it again.',
                PER_SECOND,
                [Query(rate('agent_events_total', 'result'), '{{result}}')],
            ),
            Panel(
                'Time of a delivery at an agent',
                'From the arrival of a delivery until all its events have ended.',
                SECONDS,
                quantiles('agent_delivery_seconds'),
            ),
            Panel(
                'Reports of agents',
                'failed: no resolver accepts the report, or its token is missing.',
                PER_SECOND,
                [Query(rate('agent_reports_total', 'result'), '{{result}}')],
            ),
        ),
    ),
    Row(
        'Processes',
        (
            Panel(
                'Processor time of workers',
                'Cores that a worker uses.',
                COUNT,
                [
                    Query(
                        'rate(process_cpu_seconds_total{job=~"external-events-.+"}' + f'[{RATE}])',
                        '{{instance}} {{slot}}',
                    )
                ],
            ),
            Panel(
                'Memory of workers',
                'Resident memory.',
                BYTES,
                [Query('process_resident_memory_bytes{job=~"external-events-.+"}', '{{instance}} {{slot}}')],
            ),
            Panel(
                'Open files of workers',
                'Share of the file descriptors that a worker may open.',
                SHARE,
                [
                    Query(
                        'process_open_fds{job=~"external-events-.+"} '
                        '/ process_max_fds{job=~"external-events-.+"}',
                        '{{instance}} {{slot}}',
                    )
                ],
                threshold=0.8,
            ),
            Panel(
                'Workers',
                'Running workers, and workers that the configuration asks for.',
                COUNT,
                [
                    Query('sum by (job) (external_events_workers)', '{{job}} running'),
                    Query('sum by (job) (external_events_workers_configured)', '{{job}} configured'),
                ],
            ),
            Panel(
                'Starts of workers',
                'Each worker starts once with its service, and again after a failure or a reload.',
                COUNT,
                [Query(f'sum by (job) (increase(external_events_worker_starts_total[{RATE}]))', '{{job}}')],
            ),
            Panel(
                'Age of workers',
                'Time since the start of a worker.',
                SECONDS,
                [
                    Query(
                        'time() - process_start_time_seconds{job=~"external-events-.+"}',
                        '{{instance}} {{slot}}',
                    )
                ],
            ),
            Panel(
                'Certificates',
                'Time until the first certificate of a file expires.',
                SECONDS,
                [
                    Query(
                        'min by (option) (external_events_certificate_expiry_timestamp_seconds) - time()',
                        '{{option}}',
                    )
                ],
            ),
            Panel(
                'Damaged files of metrics',
                'Files that are left out now, and files that were replaced.',
                COUNT,
                [
                    Query('sum by (job) (external_events_metrics_unreadable_files)', '{{job}} left out'),
                    Query('sum by (job) (external_events_metrics_damaged_files_total)', '{{job}} replaced'),
                ],
            ),
            Panel(
                'Releases',
                'Number of services of each release.',
                COUNT,
                [Query('count by (version) (external_events_build_info)', '{{version}}')],
            ),
        ),
    ),
)
