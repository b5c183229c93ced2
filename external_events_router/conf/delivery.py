"""``[delivery]``: timeouts, lifetimes and retries of events."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('delivery', title='Delivery of events to hosts')

#: Seconds; an agent keeps the results of a delivery no longer.
LONGEST_TTL = 604800.0

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        'ack_timeout',
        default=2.0,
        min=0.05,
        max=60.0,
        help="""
Seconds that a batch waits for the acknowledgements of its hosts. Neutron sends one
request at a time per process, and Ironic sends events during a power change, so a
response should not take longer than a few seconds. An event that is not acknowledged
in this time is held, gets 200, and is delivered later.
""",
    ),
    cfg.FloatOpt(
        'event_ttl',
        default=300.0,
        min=1.0,
        max=LONGEST_TTL,
        help="""
Seconds during which an event is useful. A held event is retried for this time. Then it
expires with a WARNING, and stays in the database for ``keep_expired``. nova-compute
waits for most events for 300 s.
""",
    ),
    cfg.DictOpt(
        'event_ttls',
        default={},
        help="""
Values that replace ``event_ttl`` for events with some names, for example
``volume-extended:3600,network-changed:60``. Unit: seconds.
""",
    ),
    cfg.FloatOpt(
        'hold_unassigned',
        default=0.0,
        min=0.0,
        max=LONGEST_TTL,
        help="""
Seconds to hold an event for a server that is known but has no host yet. 0: do not hold
it and return the code 422, as in the API reference.
""",
    ),
    cfg.FloatOpt(
        'retry_interval',
        default=10.0,
        min=0.5,
        max=3600.0,
        help="""
Maximum number of seconds between two attempts to deliver a held event. The first
interval is 0.5 s, and each interval is twice as long as the previous interval. If a host
responds again, its events are retried immediately.
""",
    ),
    cfg.FloatOpt(
        'keep_expired',
        default=86400.0,
        min=0.0,
        max=315360000.0,
        help="""
Seconds for which ended events of the hold stay in the database, so that
``external-events-manage held list`` shows them.
""",
    ),
    cfg.FloatOpt(
        'hold_timeout',
        default=1.0,
        min=0.05,
        max=5.0,
        help="""
Seconds that a batch waits for the query whether its servers have held events. The time
is part of ``ack_timeout``. If the query takes longer, the worker uses its information
from at most one second ago.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
