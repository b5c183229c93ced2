"""``[nova]``: a cloud whose host map are Nova's databases and whose agent is nova-compute."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('nova', title='In front of Nova')

#: ``compute_rpc`` where the services of each cell decide.
AUTO = 'auto'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'api_connection',
        secret=True,
        help="""
URL of Nova's API database, as ``[api_database] connection`` in its ``nova.conf``.
It is read only: ``cell_mappings``, ``instance_mappings`` and ``host_mappings``.
How connections are pooled says ``[database]``.
""",
    ),
    cfg.StrOpt(
        'database_connection',
        secret=True,
        help="""
What ``[database] connection`` is in the ``nova.conf`` of nova-api: the value that
the database connection of a cell mapping refers to where it is a template, for
example ``{scheme}://{username}:{password}@{hostname}/nova_cell1``.
""",
    ),
    cfg.StrOpt(
        'transport_url',
        secret=True,
        help="""
What ``[DEFAULT] transport_url`` is in the ``nova.conf`` of nova-api: the value that
the transport URL of a cell mapping refers to where it is a template.
""",
    ),
    cfg.StrOpt(
        'control_exchange',
        default='nova',
        help='Exchange of the computes, as ``[DEFAULT] control_exchange`` in their ``nova.conf``.',
    ),
    cfg.DictOpt(
        'messaging_options',
        default={},
        help="""
Options of ``[oslo_messaging_rabbit]`` that hold for the brokers of the cells in
place of those that hold for our own, for example
``rabbit_quorum_queue:true,amqp_durable_queues:true``. How queues and exchanges are
declared has to be as in the ``nova.conf`` of the computes. What the transport URL
of a cell mapping says itself comes first.
""",
    ),
    cfg.StrOpt(
        'acknowledge',
        default='broker',
        choices=[
            ('broker', "The cell's broker has confirmed that the event is in the host's queue."),
            ('reply', 'nova-compute has replied that it has handled the event.'),
        ],
        help="""
What makes an event delivered. With ``reply`` an event that nova-compute fails to
handle is answered 500, and one that it does not handle in time is held; each cast
that waits for a reply takes one of ``threads_per_cell``.
""",
    ),
    cfg.FloatOpt(
        'reply_timeout',
        default=60.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds after which, with ``acknowledge = reply``, a cast without a reply is sent
again, as long as the event is held. A batch waits no longer than ``[delivery]
ack_timeout``; a reply that comes later than that counts too.
""",
    ),
    cfg.StrOpt(
        'compute_rpc',
        default=AUTO,
        regex=r'^(auto|[56]\.\d+)$',
        help="""
Version of the compute RPC API to speak, for example ``6.4``, as ``[upgrade_levels]
compute`` in ``nova.conf`` would pin it. From 6.5 on casts go to the topic that
computes serve until the end of a graceful shutdown. ``auto``: in each cell what
its oldest nova-compute understands, looked at once a minute.
""",
    ),
    cfg.IntOpt(
        'threads_per_cell',
        default=64,
        min=1,
        max=4096,
        help="""
Casts to the computes of one cell that may be on their way at the same time, per
worker; each takes a thread while it is. A cell whose broker is slow or away keeps
no more than these, and none of another cell.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
