"""``[compute]``: how compute hosts are addressed."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('compute', title='Compute hosts')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'topic',
        default='compute',
        help="""
Topic that agents listen on, each as the server named after its host. The
resolver and the agents of a cloud need the same value.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
