"""``[delivery]``: what is promised of an event."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('delivery', title='Delivery of events to hosts')

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        'ack_timeout',
        default=2.0,
        min=0.05,
        max=60.0,
        help="""
Seconds that a batch waits for the acknowledgements of its hosts. Neutron keeps
one request in flight per process and Ironic posts inside a power change, so an
answer should not take longer than a few seconds. An event that is not
acknowledged by then is held, answered 200, and delivered later.
""",
    ),
    cfg.FloatOpt(
        'event_ttl',
        default=300.0,
        min=1.0,
        help="""
Seconds for which an event is worth anything. One that is held is tried again and
again for that long; after it, it is dropped with a warning and kept for
inspection, see ``keep_expired``. A compute host waits for most events for 300 s.
""",
    ),
    cfg.DictOpt(
        'event_ttls',
        default={},
        help="""
Seconds for events of some names, in place of ``event_ttl``, for example
``volume-extended:3600,network-changed:60``.
""",
    ),
    cfg.FloatOpt(
        'hold_unassigned',
        default=0.0,
        min=0.0,
        help="""
Seconds to hold an event for a server that is known but on no host yet, instead
of answering 422. 0: answer 422, as the API reference says.
""",
    ),
    cfg.FloatOpt(
        'retry_interval',
        default=10.0,
        min=0.5,
        help="""
Seconds between two attempts for a held event at most. The first come after half
a second, and each later one after twice the time; a host that gives a sign of
life is tried at once.
""",
    ),
    cfg.FloatOpt(
        'keep_expired',
        default=86400.0,
        min=0.0,
        help="""
Seconds for which events that were held and not delivered are kept for
``external-events-manage held list``.
""",
    ),
    cfg.FloatOpt(
        'hold_timeout',
        default=1.0,
        min=0.05,
        max=5.0,
        help="""
Seconds that a batch waits for the answer to whether its servers have something
held, within its ``ack_timeout``. After it, a worker goes by what it knew a second ago.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
