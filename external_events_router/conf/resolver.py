"""``[resolver]``: the service that finds hosts, casts and gathers acknowledgements."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('resolver', title='The resolver')

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        'workers',
        default=2,
        min=1,
        max=256,
        help='Worker processes of ``external-events-resolver``. One per core that it may use.',
    ),
    cfg.IntOpt(
        'threads',
        default=64,
        min=1,
        max=4096,
        help="""
Batches that one worker process routes at the same time. Each waits for its
hosts, up to ``[delivery] ack_timeout``.
""",
    ),
    cfg.IntOpt(
        'publishers',
        default=16,
        min=1,
        max=256,
        help="""
Threads per worker process that cast to hosts. One is enough for ordinary load;
the others are there for when the broker is slow to confirm. Related:
``[DEFAULT] rpc_conn_pool_size``, which should not be smaller.
""",
    ),
    cfg.BoolOpt(
        'require_report_token',
        default=False,
        help="""
Refuse the reports of a host that have no valid token: they neither change the
host map nor count as a sign of life. Only the agent of a host can read the token
from the queue of the host, so the password of one agent cannot be used to report
for another host. Set it when no agent of an earlier release runs; until then,
resolvers log once in an hour how many hosts report without a token. Related:
``[upgrade_levels] host_map``, ``[upgrade_levels] agent``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
