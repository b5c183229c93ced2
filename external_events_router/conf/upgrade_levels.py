"""``[upgrade_levels]``: maximum RPC versions during a rolling upgrade."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('upgrade_levels', title='Maximum RPC versions')

_HELP = """
Highest version of the {what} RPC API to send, for example ``1.0``, while some
servers of this API run an older release. Not set: the newest version.{more}
"""

_ACKS_MORE = """ Since 1.3, agents publish
acknowledgements to an exchange that only the resolvers of this version forward, so set
``1.2`` for agents that are upgraded before the resolvers."""

_HOST_MAP_MORE = """ Since 1.1, agents send reports to
a topic that only the resolvers of this version serve, so set ``1.0`` for agents that are
upgraded before the resolvers. Since 1.2, a report contains a token."""

OPTS: list[cfg.Opt] = [
    cfg.StrOpt('resolver', help=_HELP.format(what='resolver', more='')),
    cfg.StrOpt('acks', help=_HELP.format(what='acknowledgement', more=_ACKS_MORE)),
    cfg.StrOpt('host_map', help=_HELP.format(what='host map', more=_HOST_MAP_MORE)),
    cfg.StrOpt('agent', help=_HELP.format(what='agent', more='')),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
