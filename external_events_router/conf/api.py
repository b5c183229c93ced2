"""``[api]``: the HTTP API."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('api', title='The HTTP API')

OPTS: list[cfg.Opt] = [
    cfg.HostAddressOpt(
        'bind_host',
        default='127.0.0.1',
        help='Address to listen on. ``0.0.0.0`` or ``::`` for all interfaces.',
    ),
    cfg.PortOpt('bind_port', default=8790, help='TCP port to listen on.'),
    cfg.IntOpt(
        'workers',
        default=2,
        min=1,
        max=256,
        help='Number of worker processes of ``external-events-api``. Use one per core that the API may use.',
    ),
    cfg.IntOpt(
        'threads',
        default=64,
        min=1,
        max=1024,
        help="""
Number of requests that one worker process handles at the same time. A request waits
for the acknowledgements of its hosts, up to ``[delivery] ack_timeout``. The worker
accepts further requests, and they wait for a free thread.
""",
    ),
    cfg.StrOpt(
        'resolver',
        default='local',
        choices=[
            (
                'local',
                'A resolver worker in each API process. It needs fewer messages per batch, and holds events '
                'also while the broker is unavailable. The API needs ``[database] connection``.',
            ),
            (
                'rpc',
                'The workers of ``external-events-resolver``, called through the broker. Use it if the API '
                'must not have access to the database. While the broker is unavailable, the API answers 503.',
            ),
        ],
        help='Resolver that routes the batches of the API.',
    ),
    cfg.StrOpt(
        'auth_strategy',
        default='keystone',
        choices=[
            ('keystone', 'keystonemiddleware validates tokens, see ``[keystone_authtoken]``.'),
            (
                'noauth',
                'Every client has the role service. Only for tests and isolated networks. Each start logs '
                'a WARNING. ``external-events-all-in-one`` accepts this value on an address other than '
                'loopback only with ``--allow-insecure-noauth``.',
            ),
        ],
        help='Method of authentication of clients.',
    ),
    cfg.IntOpt(
        'token_cache_size',
        default=1000,
        min=1,
        max=1000000,
        help="""
Number of valid tokens that each API worker process caches, so that it does not validate
each token in Keystone for each request. If the cache is full, the least recently used
token is removed. A token takes about 1 KB. A token stays in the cache for
``[keystone_authtoken] token_cache_time`` seconds: a token that is revoked in this time is
still accepted, an expired token is not. The cache is not used if
``[keystone_authtoken] memcached_servers`` is set.
""",
    ),
    cfg.StrOpt(
        'tls_cert_file',
        help="""
PEM file with the certificate of the API, followed by the certificates of the
intermediate authorities. If this option and ``tls_key_file`` are set, the API accepts
HTTPS only.
""",
    ),
    cfg.StrOpt(
        'tls_key_file',
        help='PEM file with the private key of ``tls_cert_file``, not encrypted.',
    ),
    cfg.StrOpt(
        'tls_client_ca_file',
        help="""
PEM file with certificates of authorities. Only clients with a certificate of one of
these authorities can connect. The API requires a token in addition.
""",
    ),
    cfg.StrOpt(
        'tls_min_version',
        default='1.2',
        choices=[
            ('1.2', 'TLS 1.2 or 1.3.'),
            ('1.3', 'Only TLS 1.3. OpenSSL 1.1.1 and later support it.'),
        ],
        help='Oldest version of TLS that the API accepts.',
    ),
    cfg.IntOpt(
        'none_found_status',
        default=404,
        choices=[
            (404, 'itemNotFound for the whole request, as in the API reference.'),
            (207, 'A code per event, as in Nova releases with the fix of bug 1855752.'),
        ],
        help='Status of the response if no event of a batch is for a known server.',
    ),
    cfg.IntOpt(
        'max_events',
        default=10000,
        min=1,
        help="""
Maximum number of events in one request. A larger request gets 413. Related:
``[oslo_middleware] max_request_body_size``, the maximum number of bytes.
""",
    ),
    cfg.IntOpt(
        'max_tag_length',
        default=255,
        min=1,
        max=255,
        help="""
Maximum number of characters in the tag of an event. A request with a longer tag gets
400. The default is the limit of Nova. The services send the ids of ports and volumes,
which have 36 characters.
""",
    ),
    cfg.IntOpt(
        'max_connections',
        default=512,
        min=16,
        max=16384,
        help="""
Maximum number of open connections of one worker process. Further connections wait in
the queue of the kernel. Each connection can use a thread while its request arrives, and
one file descriptor. If nine tenths of the connections are in use, the worker closes
connections that are idle for 1 s and connections whose request does not arrive
completely within 1 s. Increase it if more senders keep connections open.
""",
    ),
    cfg.IntOpt(
        'max_header_bytes',
        default=65536,
        min=8192,
        max=1048576,
        help='Maximum number of bytes in the headers of a request. A request with larger headers gets 431.',
    ),
    cfg.IntOpt(
        'max_body_memory',
        default=67108864,
        min=8388608,
        max=1099511627776,
        help="""
Maximum number of bytes that all request bodies of one worker process use together, not
counting the first 16 KiB of each body, until the requests are handled. A body that gets
no memory within 5 s is answered with 503. Related:
``[oslo_middleware] max_request_body_size``.
""",
    ),
    cfg.FloatOpt(
        'idle_timeout',
        default=10.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds after which a connection without a request is closed. The time starts when the
connection opens or when its last response was sent, and ends when the headers of the
next request are complete.
""",
    ),
    cfg.FloatOpt(
        'request_timeout',
        default=10.0,
        min=1.0,
        max=3600.0,
        help="""
Seconds after which a connection is closed if its request (headers and body) is not
complete, or if the client does not read the response. The service cannot distinguish an
incomplete request from a request that waits for a thread or for its hosts. Therefore an
unanswered request is closed after this time plus three times (``[delivery] ack_timeout``
+ 1 s). If nine tenths of ``max_connections`` are in use, it is closed after ``[delivery]
ack_timeout`` + 2 s.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
