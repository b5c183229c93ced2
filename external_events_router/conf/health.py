"""``[health]``: readiness of a process, for load balancers and containers."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('health', title='Health of the processes')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'disable_by_file',
        help="""
While this file exists, ``GET /readiness`` answers 503, so that a load balancer sends no
more requests. The service itself continues. Create the file before you stop a service.
""",
    ),
    cfg.HostAddressOpt(
        'bind_host',
        default='127.0.0.1',
        help="""
Address on which resolvers and agents serve ``GET /healthcheck`` and ``GET /readiness``
without authentication. The API serves both on ``[api] bind_port``.
""",
    ),
    cfg.PortOpt(
        'bind_port',
        min=1,
        help="""
TCP port on which resolvers and agents serve ``GET /healthcheck`` and ``GET /readiness``.
Without a value they do not listen. The first resolver worker uses this port, and each
further worker the next port. Resolver and agent on one machine need different ports: set
the option in the file of each service, for example ``external-events-agent.conf``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
