"""``[broker]``: connections to RabbitMQ, beside the options of oslo.messaging."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('broker', title='Connections to RabbitMQ')

OPTS: list[cfg.Opt] = [
    cfg.BoolOpt(
        'verify_tls',
        default=True,
        help="""
Verify the certificate of the broker and the host name in it, if
``[oslo_messaging_rabbit] ssl`` is true. The trusted authorities are in ``ssl_ca_file``,
or in the trust store of the system if that option is not set. Set it to false only for
tests: an attacker between the service and the broker could then read and change all
messages. Each start logs a WARNING in this case.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
