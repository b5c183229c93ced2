"""``[DEFAULT]``: what all services on a machine share."""

from __future__ import annotations

import socket

from oslo_config import cfg

OPTS: list[cfg.Opt] = [
    cfg.HostAddressOpt(
        'host',
        default=socket.gethostname(),
        sample_default='<the name of this machine>',
        help="""
Name of this machine. A resolver worker is addressed by it, so it must differ
between machines. An agent stands for the host of this name where no host is
given on its command line or in ``[agent] hosts``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [('DEFAULT', OPTS)]
