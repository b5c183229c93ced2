"""``[compute]``: messages to compute hosts."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('compute', title='Compute hosts')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'driver',
        default='agent',
        choices=[
            ('agent', 'The agent of this project.'),
            ('nova', 'nova-compute. Needs ``[host_map] backend = nova``, see ``[nova]``.'),
        ],
        help='Software on the compute hosts that receives the events.',
    ),
    cfg.StrOpt(
        'topic',
        default='compute',
        regex=r'^[0-9A-Za-z._-]+\Z',
        max_length=100,
        help="""
Topic of the messages to agents. The server name in a target is the name of the host. The
resolver and the agents of a cloud need the same value. ``<topic>.<host>`` can have up to
255 bytes, so a longer topic permits only shorter host names: 247 characters with the
default.
""",
    ),
    cfg.BoolOpt(
        'direct_amqp',
        default=True,
        deprecated_name='fast_road',
        help="""
With RabbitMQ, send casts and acknowledgements over connections of this service (direct
AMQP), many at a time. If false, oslo.messaging sends one after the other. The messages
are the same, so services with different values work together. The service always uses
oslo.messaging for other transports, and with these options of the RabbitMQ driver:
message compression, mirrored queues, FIPS mode.
""",
    ),
    cfg.BoolOpt(
        'coalesce',
        default=True,
        help="""
Combine casts: casts for a host that are requested while a message to this host is being
sent go together in the next message. A cast to a host without such a
message is always sent immediately.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
