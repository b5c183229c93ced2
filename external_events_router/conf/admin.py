"""``[admin]``: the admin API."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('admin', title='The admin API')

OPTS: list[cfg.Opt] = [
    cfg.HostAddressOpt(
        'bind_host',
        default='127.0.0.1',
        help='Address on which ``external-events-admin`` listens. ``0.0.0.0`` or ``::`` for all interfaces.',
    ),
    cfg.PortOpt(
        'bind_port',
        default=8791,
        help="""
TCP port on which ``external-events-admin`` listens. ``external-events-all-in-one``
listens on the port after ``[api] bind_port`` if this option is not set.
""",
    ),
    cfg.StrOpt(
        'auth_strategy',
        default='keystone',
        choices=[
            ('keystone', 'keystonemiddleware validates tokens, see ``[keystone_authtoken]``.'),
            (
                'noauth',
                'Every client on this machine has the role admin. The service refuses to start unless '
                '``bind_host`` is a loopback address, and refuses requests from other machines.',
            ),
        ],
        help='Method of authentication of clients.',
    ),
    cfg.ListOpt(
        'operator_projects',
        default=['admin', 'service'],
        help="""
Ids of projects, or names of projects in the domain ``default``, whose members with the
role reader may read: the default policy refuses readers of all other projects, because
the admin API shows the events of all servers. The role admin does not depend on this
option.
""",
    ),
    cfg.IntOpt(
        'threads',
        default=16,
        min=2,
        max=256,
        help="""
Number of requests that are handled at the same time. At most half of them wait for new
events; a further request for new events gets 503.
""",
    ),
    cfg.IntOpt(
        'max_limit',
        default=1000,
        min=1,
        max=10000,
        help='Maximum number of objects in one answer. A request with a larger ``limit`` gets 400.',
    ),
    cfg.IntOpt(
        'max_replay',
        default=1000,
        min=1,
        max=100000,
        help="""
Maximum number of events that one request sends again. For more events use
``external-events-manage replay``.
""",
    ),
    cfg.FloatOpt(
        'confirmation_lifetime',
        default=120.0,
        min=5.0,
        max=3600.0,
        help="""
Seconds for which the confirmation of a preview is valid. A request that drops or retries
held events by a filter needs such a confirmation.
""",
    ),
    cfg.StrOpt(
        'audit_map_file',
        help="""
File for the audit filter of keystonemiddleware, which sends a CADF notification for each
request. Unset: no notifications. The journal records all actions in either case.
Related: ``[audit_middleware_notifications]``.
""",
    ),
    cfg.StrOpt(
        'tls_cert_file',
        help="""
PEM file with the certificate of the admin API, followed by the certificates of the
intermediate authorities. If this option and ``tls_key_file`` are set, the admin API
accepts HTTPS only.
""",
    ),
    cfg.StrOpt('tls_key_file', help='PEM file with the private key of ``tls_cert_file``, not encrypted.'),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
