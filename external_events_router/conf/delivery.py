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
answer should not take longer than a few seconds.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
