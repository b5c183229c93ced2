"""``[metrics]``: metrics for Prometheus."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('metrics', title='Metrics for Prometheus')

OPTS: list[cfg.Opt] = [
    cfg.HostAddressOpt(
        'bind_host',
        default='127.0.0.1',
        help="""
Address on which a service serves ``GET /metrics`` without authentication. Choose one
that only the monitoring network reaches.
""",
    ),
    cfg.PortOpt(
        'bind_port',
        help="""
TCP port on which a service serves ``GET /metrics``. Without a value the service neither
counts nor listens. API, resolver and agent on one machine need different ports: set the
option in a file of each service, for example
``/etc/external-events-router/external-events-resolver.conf.d/metrics.conf``.
""",
    ),
    cfg.StrOpt(
        'directory',
        default='/var/lib/external-events-router/metrics',
        help="""
Folder of the files in which processes count. Each service uses a separate folder in
it, ``api``, ``resolver`` or ``agent``, and creates it. Two services of the same kind on
one machine need different values. Choose a local file system.
""",
    ),
    cfg.DictOpt(
        'sender_users',
        default={},
        help="""
Names of Keystone users that send events, each with its service: ``neutron``, ``cinder``,
``ironic``, ``cyborg`` or ``other``, for example ``svc-network:neutron``. A user whose
name contains the name of a service needs no entry. Events of a user with ``nova`` in its
name count for the service that sends events of this name. All other users are ``other``,
so that events that an operator sends do not hide that a service is silent.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
