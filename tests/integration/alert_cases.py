"""Cases for the alert rules: series of a minute's interval, and the alerts that fire at an instant.

The notation of the values is that of promtool: ``0+5x60`` is 0, 5, 10, up to 300; ``1x60`` is 61 times 1.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

#: Labels of the targets in the cases.
API = 'job="external-events-api",instance="controller-1:9790"'
OTHER_API = 'job="external-events-api",instance="controller-2:9790"'
AGENT = 'job="external-events-agent",instance="compute-1:9792"'

#: Minutes of a day and of an hour.
DAY, HOUR = 1440, 60


@dataclasses.dataclass(frozen=True)
class Case:
    """One test of one rule.

    :ivar alert: the rule that the case is about
    :ivar series: series to values
    :ivar at: minute of the evaluation
    :ivar fires: whether the alert fires then; no other alert does
    """

    alert: str
    series: Mapping[str, str]
    at: int
    fires: bool

    def test(self):
        """The case as promtool reads it."""
        expected = [{'labels': f'{{alertname="{self.alert}"}}', 'value': 1}] if self.fires else []
        return {
            'interval': '1m',
            'input_series': [{'series': name, 'values': values} for name, values in self.series.items()],
            'promql_expr_test': [
                {
                    'expr': 'group by (alertname) (ALERTS{alertstate="firing"})',
                    'eval_time': f'{self.at}m',
                    'exp_samples': expected,
                }
            ],
        }


def _labelled(metric, labels, target=API):
    return f'{metric}{{{",".join(part for part in (labels, target) if part)}}}'


def _metric(name, labels='', target=API):
    return _labelled(f'external_events_{name}', labels, target)


def _posts(sender, until, total):
    """A sender that posts until a minute, and its last time; the epoch is minute 0."""
    per_minute = total // until
    return {
        _metric(
            'sender_posts_total', f'sender="{sender}"'
        ): f'0+{per_minute}x{until} {total}x{2 * DAY - until}',
        _metric('sender_last_post_timestamp_seconds', f'sender="{sender}"'): (
            f'0+60x{until} {60 * until}x{2 * DAY - until}'
        ),
    }


def _lookups(complete, cached, failed):
    return {
        _metric('lookups_total', f'result="{result}"'): f'0+{number}x60'
        for result, number in (('complete', complete), ('cached', cached), ('failed', failed))
    }


def _deliveries(direct, held):
    """Events per minute within 0.05 s, and within 5 s because they were held."""
    series = {_metric('ack_timeout_seconds'): '2x60'}
    for path, number, bound in (('direct', direct, 0.05), ('held', held, 5.0)):
        for le in ('0.01', '0.05', '1.0', '2.0', '3.0', '5.0', '+Inf'):
            count = number if float(le) >= bound else 0
            name = _metric('delivery_seconds_bucket', f'path="{path}",le="{le}"')
            series[name] = f'0+{count}x60'
    return series


def _counter(name, labels, per_minute, *, start=0, minutes=90):
    """A counter that is 0 until a minute and then grows."""
    before = f'0x{start - 1} ' if start else ''
    return {_metric(name, labels): f'{before}0+{per_minute}x{minutes}'}


def _unauthorized(before, after):
    """Refused requests per minute in an hour and in the 20 minutes after it."""
    end = before * 70
    return {
        _metric('requests_total', 'status="401"'): f'0+{before}x70 {end + after}+{after}x30',
        _metric('requests_total', 'status="403"'): '0x100',
    }


#: All is as it should be: two controllers and an agent.
HEALTHY = {
    **_posts('neutron', 2 * DAY - 1, (2 * DAY - 1) * 3),
    **_posts('cinder', 1, 0),
    _metric('total', 'name="network-changed",code="200"'): f'0+100x{2 * DAY}',
    _metric('total', 'name="network-changed",code="404"'): f'0+1x{2 * DAY}',
    _metric('total', 'name="network-changed",code="503"'): f'0x{2 * DAY}',
    _metric('requests_total', 'status="200"'): f'0+100x{2 * DAY}',
    _metric('requests_total', 'status="401"'): f'0+1x{2 * DAY}',
    _metric('requests_total', 'status="403"'): f'0x{2 * DAY}',
    _metric('requests_total', 'status="503"'): f'0x{2 * DAY}',
    _metric('held', 'state="held"'): f'3x{2 * DAY}',
    _metric('held', 'state="expired"'): f'0x{2 * DAY}',
    _metric('held_oldest_seconds'): f'7x{2 * DAY}',
    _metric('ended_total', 'state="delivered"'): f'0+3x{2 * DAY}',
    _metric('ended_total', 'state="expired"'): f'0x{2 * DAY}',
    _metric('breakers_open'): f'1x{2 * DAY}',
    _metric('hosts_known'): f'100x{2 * DAY}',
    _metric('broker_up'): f'1x{2 * DAY}',
    _metric('broker_blocked'): f'0x{2 * DAY}',
    _metric('database_up'): f'1x{2 * DAY}',
    _metric('journal_dropped_total'): f'0x{2 * DAY}',
    _metric('worker_starts_total'): f'2x{2 * DAY}',
    _metric('workers'): f'2x{2 * DAY}',
    _metric('workers_configured'): f'2x{2 * DAY}',
    _metric('certificate_expiry_timestamp_seconds', 'option="[api] tls_cert_file"'): (
        f'{60 * 86400}x{2 * DAY}'
    ),
    _metric('agent_events_total', 'result="handled"', AGENT): f'0+100x{2 * DAY}',
    _metric('agent_events_total', 'result="failed"', AGENT): f'0x{2 * DAY}',
    _labelled('up', '', API): f'1x{2 * DAY}',
}


def _pairs():
    """For each rule: series with which it fires, series close to it with which it does not, the minute."""
    yield (
        'ExternalEventsSenderSilent',
        _posts('neutron', DAY, DAY * 3),
        # Its last batch was 50 minutes ago; a sender that posts rarely is not expected to post.
        {**_posts('neutron', DAY + 20, (DAY + 20) * 3), **_posts('cinder', 50, 50)},
        DAY + 70,
    )
    yield (
        'ExternalEventsHeld',
        {_metric('held', 'state="held"'): '101x60', _metric('held', 'state="held"', OTHER_API): '101x60'},
        {
            # Two services report the same events, which are not added up.
            _metric('held', 'state="held"'): '90x60',
            _metric('held', 'state="held"', OTHER_API): '90x60',
            _metric('held', 'state="expired"'): '1000x60',
        },
        10,
    )
    yield (
        'ExternalEventsHeldOld',
        {_metric('held_oldest_seconds'): '121x60'},
        {_metric('held_oldest_seconds'): '119x60'},
        10,
    )
    yield (
        'ExternalEventsExpired',
        _counter('ended_total', 'state="expired"', 1, start=5, minutes=1),
        {
            **_counter('ended_total', 'state="refused"', 10),
            _metric('ended_total', 'state="expired"'): '7x60',
        },
        10,
    )
    yield (
        'ExternalEventsLost',
        {
            **_counter('total', 'name="network-changed",code="503"', 1, start=5, minutes=1),
            _metric('requests_total', 'status="503"'): '0x60',
        },
        {
            _metric('total', 'name="network-changed",code="503"'): '8x60',
            **_counter('total', 'name="network-changed",code="404"', 10),
            _metric('requests_total', 'status="503"'): '3x60',
            **_counter('requests_total', 'status="207"', 10),
        },
        8,
    )
    yield ('ExternalEventsUnauthorized', _unauthorized(0, 3), _unauthorized(3, 4), 90)
    yield (
        'ExternalEventsBreakersOpen',
        {_metric('breakers_open'): '11x60', _metric('hosts_known'): '100x60'},
        {
            _metric('breakers_open'): '10x60',
            _metric('hosts_known'): '100x60',
            _metric('breakers_open', '', OTHER_API): '0x60',
            _metric('hosts_known', '', OTHER_API): '0x60',
        },
        10,
    )
    yield (
        'ExternalEventsBrokerDown',
        {_metric('broker_up'): '0x60', _metric('broker_up', '', OTHER_API): '1x60'},
        {_metric('broker_up'): '1x7 0x0 1x50'},
        9,
    )
    yield (
        'ExternalEventsBrokerBlocked',
        {_metric('broker_blocked'): '1x60'},
        {_metric('broker_blocked'): '0x60'},
        5,
    )
    yield (
        'ExternalEventsDatabaseDown',
        {_metric('database_up'): '0x60'},
        {_metric('database_up'): '0x4 1x60'},
        6,
    )
    yield ('ExternalEventsLookupsFail', _lookups(1000, 10, 10), _lookups(1000, 5, 4), 20)
    yield (
        'ExternalEventsJournalDrops',
        _counter('journal_dropped_total', '', 5, start=5, minutes=1),
        {_metric('journal_dropped_total'): '70x60'},
        10,
    )
    yield (
        'ExternalEventsWorkersRestart',
        {_metric('worker_starts_total'): '0+1x60', _metric('workers'): '2x60'},
        # A restart of the service starts each worker once.
        {_metric('worker_starts_total'): '2x10 4x50', _metric('workers'): '2x60'},
        20,
    )
    yield (
        'ExternalEventsWorkersMissing',
        {_metric('workers'): '1x60', _metric('workers_configured'): '2x60'},
        {
            _metric('workers'): '3x60',
            _metric('workers_configured'): '2x60',
            # Another WSGI server decides on the number.
            _metric('workers', '', OTHER_API): '1x60',
        },
        5,
    )
    yield ('ExternalEventsSlow', _deliveries(100, 2), _deliveries(1000, 2), 20)
    yield (
        'ExternalEventsCertificateExpires',
        {
            _metric('certificate_expiry_timestamp_seconds', 'option="[api] tls_cert_file"'): (
                f'{13 * 86400}x60'
            )
        },
        {
            _metric('certificate_expiry_timestamp_seconds', 'option="[api] tls_cert_file"'): (
                f'{15 * 86400}x60'
            )
        },
        10,
    )
    yield (
        'ExternalEventsAgentFailures',
        {_metric('agent_events_total', 'result="late"', AGENT): '0+1x60'},
        {
            _metric('agent_events_total', 'result="late"', AGENT): '4x60',
            _metric('agent_events_total', 'result="repeated"', AGENT): '0+9x60',
        },
        20,
    )
    yield (
        'ExternalEventsTargetDown',
        {_labelled('up', '', AGENT): '0x60', _labelled('up', '', API): '1x60'},
        {_labelled('up', 'job="node"', ''): '0x60', _labelled('up', '', AGENT): '1x60'},
        5,
    )


#: A rule that fires for a while must not fire before that.
EARLY = {
    'ExternalEventsHeld': 4,
    'ExternalEventsBrokerDown': 0,
    'ExternalEventsWorkersMissing': 1,
    'ExternalEventsTargetDown': 1,
}


def all_cases():
    """Every case."""
    yield Case('none', HEALTHY, 2 * DAY - 10, fires=False)
    for alert, firing, not_firing, at in _pairs():
        yield Case(alert, firing, at, fires=True)
        yield Case(alert, not_firing, at, fires=False)
        if alert in EARLY:
            yield Case(alert, firing, EARLY[alert], fires=False)
