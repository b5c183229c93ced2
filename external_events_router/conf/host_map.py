"""``[host_map]``: where the resolver learns on which hosts a server is."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('host_map', title='The map from servers to hosts')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'backend',
        default='sql',
        help="""
Host map: the name of an entry point in ``external_events_router.host_map``. ``sql``: the
tables of this service in ``[database] connection``. ``nova``: the databases of an
existing Nova, see ``[nova]``.
""",
    ),
    cfg.FloatOpt(
        'timeout',
        default=1.5,
        min=0.01,
        max=60.0,
        help="""
Maximum number of seconds that a batch waits for the hosts of its servers. If the look-up
takes longer, the worker uses the last known hosts of servers, and events for servers
without a known host get 503. If all servers of the batch have a known host, the worker
waits only a third of this time. Keep it below ``[delivery] ack_timeout``.
""",
    ),
    cfg.IntOpt(
        'remembered_servers',
        default=100000,
        min=0,
        help="""
Number of servers whose last known hosts a resolver worker remembers, for use while the
database is unavailable. The worker keeps the most recently used servers. A server takes
about 400 bytes.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
