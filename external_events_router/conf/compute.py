"""``[compute]``: how compute hosts are addressed."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('compute', title='Compute hosts')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'driver',
        default='agent',
        choices=[
            ('agent', 'Our agent runs on the hosts.'),
            ('nova', 'nova-compute runs on the hosts; needs ``[host_map] backend = nova``, see ``[nova]``.'),
        ],
        help='What runs on the compute hosts, and so how they are spoken to.',
    ),
    cfg.StrOpt(
        'topic',
        default='compute',
        regex='[0-9A-Za-z._-]+$',
        max_length=100,
        help="""
Topic that agents listen on, each as the server named after its host. The
resolver and the agents of a cloud need the same value. ``<topic>.<host>`` has at
most 255 bytes, so a longer topic allows shorter host names: 247 characters with
the default.
""",
    ),
    cfg.BoolOpt(
        'fast_road',
        default=True,
        help="""
Over RabbitMQ, send casts and acknowledgements on connections of our own, many at
a time, instead of one after the other by oslo.messaging. What travels is the
same, so services that differ in this work together. Other transports, and a few
options of the RabbitMQ driver (message compression, mirrored queues, FIPS mode),
know only the plain road, whatever this says.
""",
    ),
    cfg.BoolOpt(
        'coalesce',
        default=True,
        help="""
On the fast road, what comes up for a host while a message to it is on its way
goes together in the next one. A host with nothing on its way is sent to at
once, either way.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
