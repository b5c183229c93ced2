"""``[resolver]``: the service that finds hosts, casts events, and collects acknowledgements."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('resolver', title='The resolver')

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        'workers',
        default=2,
        min=1,
        max=256,
        help='Number of worker processes of ``external-events-resolver``. Use one per core that it may use.',
    ),
    cfg.IntOpt(
        'threads',
        default=64,
        min=1,
        max=4096,
        help="""
Number of batches that one worker process routes at the same time. Each batch waits for
its hosts, up to ``[delivery] ack_timeout``.
""",
    ),
    cfg.IntOpt(
        'publishers',
        default=16,
        min=1,
        max=256,
        help="""
Number of threads per worker process that cast to hosts. One thread is enough for normal
load. More threads are useful while the broker is slow to confirm messages. Related:
``[DEFAULT] rpc_conn_pool_size``, which should not be smaller.
""",
    ),
    cfg.BoolOpt(
        'require_report_token',
        default=False,
        help="""
Refuse reports of hosts without a valid token: such a report neither changes the host map
nor shows that the host responds. Only the agent of a host can read the token from the
queue of the host, so an agent with only its own password cannot report for another host.
Set it when all agents run this release. Until then, resolvers log once per hour how many
hosts report without a token. Related: ``[upgrade_levels] host_map``, ``[upgrade_levels]
agent``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
