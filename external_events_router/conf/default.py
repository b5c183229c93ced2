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
Name of this machine. It is part of the address of a resolver worker, so it must be
unique. It is also the host whose events an agent receives if neither the command line
of the agent nor ``[agent] hosts`` names a host.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_opts(OPTS)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [('DEFAULT', OPTS)]
