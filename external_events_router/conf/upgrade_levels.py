"""``[upgrade_levels]``: version caps for the time of a rolling upgrade."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('upgrade_levels', title='Version caps for RPC clients')

_HELP = """
Highest version of the {what} RPC API to send, for example ``1.0``, while some
of its servers still run an older release. Unset: the newest.
"""

OPTS: list[cfg.Opt] = [
    cfg.StrOpt('resolver', help=_HELP.format(what='resolver')),
    cfg.StrOpt('acks', help=_HELP.format(what='acknowledgement')),
    cfg.StrOpt('host_map', help=_HELP.format(what='host map')),
    cfg.StrOpt('agent', help=_HELP.format(what='agent')),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
