"""``[broker]``: connections to RabbitMQ, beside the options of oslo.messaging."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('broker', title='Connections to RabbitMQ')

OPTS: list[cfg.Opt] = [
    cfg.BoolOpt(
        'verify_tls',
        default=True,
        help="""
Verify the certificate of the broker and the host name in it, where
``[oslo_messaging_rabbit] ssl`` is true: with ``ssl_ca_file``, or with the
system's trust store where that is not set. Set it to false only for tests: then
whoever is on the way to the broker can read and change all messages, and each
start logs a WARNING.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
