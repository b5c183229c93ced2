"""``[api]``: the HTTP front."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('api', title='The HTTP front')

OPTS: list[cfg.Opt] = [
    cfg.HostAddressOpt(
        'bind_host',
        default='127.0.0.1',
        help='Address to listen on. ``0.0.0.0`` or ``::`` for every interface.',
    ),
    cfg.PortOpt('bind_port', default=8790, help='TCP port to listen on.'),
    cfg.IntOpt(
        'workers',
        default=2,
        min=1,
        max=256,
        help='Worker processes of ``external-events-api``. One per core that the front may use.',
    ),
    cfg.IntOpt(
        'threads',
        default=32,
        min=1,
        max=1024,
        help="""
Requests that one worker process handles at the same time. A request waits for
its hosts' acknowledgements, up to ``[delivery] ack_timeout``; requests beyond
this number wait in the listener's queue.
""",
    ),
    cfg.StrOpt(
        'resolver',
        default='rpc',
        choices=[
            ('rpc', 'The workers of ``external-events-resolver``, called over the broker.'),
            (
                'local',
                'A resolver worker in each process of the front: fewer messages per batch, and events '
                'are held also while the broker is away. Needs ``[database] connection`` here too.',
            ),
        ],
        help='What routes the batches that the front accepts.',
    ),
    cfg.StrOpt(
        'auth_strategy',
        default='keystone',
        choices=[
            ('keystone', 'Tokens are validated by keystonemiddleware, see ``[keystone_authtoken]``.'),
            ('noauth', 'Every caller is the service role. For tests and for closed networks only.'),
        ],
        help='How callers are authenticated.',
    ),
    cfg.IntOpt(
        'none_found_status',
        default=404,
        choices=[
            (404, 'itemNotFound for the whole request, as the API reference says.'),
            (207, 'A code per event, as Nova releases do since the fix of bug 1855752.'),
        ],
        help='Status of the answer when no event of a batch names a known server.',
    ),
    cfg.IntOpt(
        'max_events',
        default=10000,
        min=1,
        help="""
Events that one request may carry; a larger one is answered 413. Related:
``[oslo_middleware] max_request_body_size``, which bounds the bytes.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
