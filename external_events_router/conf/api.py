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
        default=64,
        min=1,
        max=1024,
        help="""
Requests that one worker process handles at the same time. A request waits for
its hosts' acknowledgements, up to ``[delivery] ack_timeout``; requests beyond
this number are taken in, and wait.
""",
    ),
    cfg.StrOpt(
        'resolver',
        default='local',
        choices=[
            (
                'local',
                'A resolver worker in each process of the front: fewer messages per batch, and events '
                'are held also while the broker is away. Needs ``[database] connection`` here too.',
            ),
            (
                'rpc',
                'The workers of ``external-events-resolver``, called over the broker: for a front that '
                'must not reach the database. While the broker is away it answers 503.',
            ),
        ],
        help='What routes the batches that the front accepts.',
    ),
    cfg.StrOpt(
        'auth_strategy',
        default='keystone',
        choices=[
            ('keystone', 'Tokens are validated by keystonemiddleware, see ``[keystone_authtoken]``.'),
            (
                'noauth',
                'Every caller is the service role. For tests and for closed networks only: each start logs '
                'a WARNING, and ``external-events-all-in-one`` refuses it on an address other than loopback '
                'unless ``--allow-insecure-noauth`` is given.',
            ),
        ],
        help='How callers are authenticated.',
    ),
    cfg.IntOpt(
        'token_cache_size',
        default=1000,
        min=1,
        max=1000000,
        help="""
Tokens that each worker process of the front remembers as valid, so that Keystone
is not asked about them with every request; beyond it the one that was not used
for longest is forgotten. Each takes about a kilobyte. How long they are
remembered is ``[keystone_authtoken] token_cache_time``, in seconds: a token that
is revoked meanwhile is accepted until then, one that expires is not. Not used
where ``[keystone_authtoken] memcached_servers`` is set.
""",
    ),
    cfg.StrOpt(
        'tls_cert_file',
        help="""
File with the certificate of the front in PEM, and after it those of the
authorities between it and the root. With it, and ``tls_key_file``, the front
speaks HTTPS and no HTTP.
""",
    ),
    cfg.StrOpt(
        'tls_key_file',
        help='File with the private key of ``tls_cert_file`` in PEM, not encrypted.',
    ),
    cfg.StrOpt(
        'tls_client_ca_file',
        help="""
File with certificates of authorities in PEM. Only clients with a certificate of
one of them may connect. The token is asked for all the same.
""",
    ),
    cfg.StrOpt(
        'tls_min_version',
        default='1.2',
        choices=[
            ('1.2', 'TLS 1.2 or 1.3.'),
            ('1.3', 'TLS 1.3 alone. Every OpenSSL since 1.1.1 has it.'),
        ],
        help='The oldest version of TLS that the front speaks.',
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
    cfg.IntOpt(
        'max_tag_length',
        default=255,
        min=1,
        max=255,
        help="""
Characters that the tag of an event may have; an event with a longer one makes
the request 400. Nova's bound is the default and the most; a port's or a volume's
id, which is what the services send, has 36.
""",
    ),
    cfg.IntOpt(
        'max_connections',
        default=512,
        min=16,
        max=16384,
        help="""
Connections that one worker process has at the same time; more wait in the
kernel's queue. Each may take a thread while its request comes in, and one file
descriptor. Where nine tenths are taken, those that say nothing for a second are
closed, and those whose request takes longer than that to come in. Raise it where
more senders than that keep connections open.
""",
    ),
    cfg.IntOpt(
        'max_header_bytes',
        default=65536,
        min=8192,
        max=1048576,
        help='Bytes that the headers of a request may have; more are answered 431.',
    ),
    cfg.IntOpt(
        'max_body_memory',
        default=67108864,
        min=8388608,
        max=1099511627776,
        help="""
Bytes of memory that the request bodies of one worker process may take together,
beyond 16 KiB of each, until they are handled. A body that finds none free for
5 seconds is answered 503. Related: ``[oslo_middleware] max_request_body_size``.
""",
    ),
    cfg.FloatOpt(
        'idle_timeout',
        default=10.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds that a connection may be without a request, which the headers of a
request may take too: counted from its beginning, or its last answer, until they
are there. Then it is closed.
""",
    ),
    cfg.FloatOpt(
        'request_timeout',
        default=10.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds that a request may take to come in, headers and body, from its first
byte; and that an answer may wait for a client that does not take it. Then the
connection is closed. Not to the second: while a request waits for its thread or
its hosts nothing more of it is awaited, and the bound is longer by what that may
take, three times ``[delivery] ack_timeout`` and three seconds. Where connections
are short it is shorter, ``[delivery] ack_timeout`` and two seconds.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
