"""``[exec]``: the handler that runs an operator's command per event."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('exec', title='The exec handler of the agent')

#: Default of ``environment``.
ENVIRONMENT = ('PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LC_ALL', 'LC_CTYPE', 'TZ', 'TMPDIR')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'command',
        mutable=True,
        help="""
Command to run for an event. It is split into words as in a shell, and runs without a
shell. It receives the event as one JSON object on its standard input. Exit status 0: the
event is handled. 3: the server is not on this host. Other: the event failed and is not
retried.
""",
    ),
    cfg.FloatOpt(
        'timeout',
        default=30.0,
        mutable=True,
        min=0.1,
        max=86400.0,
        help="""
Seconds after which the agent kills the command and its child processes. The event is
then refused.
""",
    ),
    cfg.ListOpt(
        'environment',
        default=list(ENVIRONMENT),
        mutable=True,
        help="""
Names of the environment variables of the agent that the command receives, if they are
set. It receives no other variables, so that it does not receive passwords of the agent
(``OS_...``). Add the names that the command needs.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
