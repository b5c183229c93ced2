"""``[nova]``: a cloud whose host map are Nova's databases and whose agent is nova-compute."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('nova', title='In front of Nova')

#: Value of ``compute_rpc`` that selects the version by the services of each cell.
AUTO = 'auto'

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'api_connection',
        secret=True,
        help="""
URL of the API database of Nova: the value of ``[api_database] connection`` in
``nova.conf``. The service only reads ``cell_mappings``, ``instance_mappings`` and
``host_mappings``. ``[database]`` contains the options for the connection pool.
""",
    ),
    cfg.StrOpt(
        'database_connection',
        secret=True,
        help="""
Value of ``[database] connection`` in the ``nova.conf`` of nova-api. It replaces the
variables in the database connection of a cell mapping that is a template, for example
``{scheme}://{username}:{password}@{hostname}/nova_cell1``.
""",
    ),
    cfg.StrOpt(
        'transport_url',
        secret=True,
        help="""
Value of ``[DEFAULT] transport_url`` in the ``nova.conf`` of nova-api. It replaces the
variables in the transport URL of a cell mapping that is a template.
""",
    ),
    cfg.StrOpt(
        'control_exchange',
        default='nova',
        help='Exchange of nova-compute: the value of ``[DEFAULT] control_exchange`` in its ``nova.conf``.',
    ),
    cfg.DictOpt(
        'messaging_options',
        default={},
        help="""
Options for the brokers of the cells that replace options of ``[oslo_messaging_rabbit]``
in this file, for example ``rabbit_quorum_queue:true,amqp_durable_queues:true``. Options
that declare queues and exchanges must be the same as in the ``nova.conf`` of
nova-compute. Parameters in the transport URL of a cell mapping take precedence.
""",
    ),
    cfg.StrOpt(
        'acknowledge',
        default='broker',
        choices=[
            ('broker', 'The broker of the cell has confirmed that the event is in the queue of the host.'),
            ('reply', 'nova-compute has replied that it has handled the event.'),
        ],
        help="""
Condition for the code 200. With ``reply``, an event that nova-compute fails to handle
gets 500, and an event that it does not handle in time is held. Each cast that waits for
a reply uses one of ``threads_per_cell`` threads.
""",
    ),
    cfg.FloatOpt(
        'reply_timeout',
        default=60.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds after which a cast without a reply is sent again while the event is held, if
``acknowledge = reply``. A batch still waits only for ``[delivery] ack_timeout``. A later
reply also ends the hold.
""",
    ),
    cfg.StrOpt(
        'compute_rpc',
        default=AUTO,
        regex=r'^(auto|[56]\.\d+)$',
        help="""
Version of the compute RPC API, for example ``6.4``, in the format of
``[upgrade_levels] compute`` in ``nova.conf``. From 6.5, casts go to the topic that
nova-compute serves until the end of a graceful shutdown. ``auto``: the version of the
oldest nova-compute in each cell, which the worker checks once per minute.
""",
    ),
    cfg.IntOpt(
        'threads_per_cell',
        default=64,
        min=1,
        max=4096,
        help="""
Maximum number of casts to nova-compute of one cell at the same time, per worker. Each
cast uses a thread. A slow or unavailable broker of a cell blocks only threads of this
cell.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
