"""``[host_map]``: where the resolver learns on which hosts a server is."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('host_map', title='The map from servers to hosts')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'backend',
        default='sql',
        help="""
Name of the host map, an entry point in ``external_events_router.host_map``.
``sql`` is the service's own, in the database of ``[database] connection``.
``nova`` are the databases of a Nova that is there already, see ``[nova]``.
""",
    ),
    cfg.FloatOpt(
        'timeout',
        default=1.5,
        min=0.01,
        max=60.0,
        help="""
Seconds that one look-up of a batch may take. After it, events go to the hosts
that were last seen for their servers, and the others are answered 503. Where all
servers of the batch were seen before, a third of it. Keep it below
``[delivery] ack_timeout``.
""",
    ),
    cfg.IntOpt(
        'remembered_servers',
        default=100000,
        min=0,
        help="""
Servers whose hosts a resolver worker remembers for when the database is away,
the most recently used ones. About 400 bytes each.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
