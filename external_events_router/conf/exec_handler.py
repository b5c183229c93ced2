"""``[exec]``: the handler that runs an operator's command per event."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('exec', title='The exec handler of the agent')

#: Variables of the agent's environment that a command gets.
ENVIRONMENT = ('PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LC_ALL', 'LC_CTYPE', 'TZ', 'TMPDIR')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'command',
        mutable=True,
        help="""
Command to run for an event, split as a shell splits words, run without a shell.
It gets the event as one JSON object on its standard input. Exit status 0: handled;
3: the server is not on this host; any other: refused for good.
""",
    ),
    cfg.FloatOpt(
        'timeout',
        default=30.0,
        mutable=True,
        min=0.1,
        help="""
Seconds after which the command and its children are killed and the event is
refused.
""",
    ),
    cfg.ListOpt(
        'environment',
        default=list(ENVIRONMENT),
        mutable=True,
        help="""
Names of the variables of the agent's environment that the command gets, where they
are set; it gets no others, so that no password of the agent's own (``OS_...``) does.
Add the names that the command needs.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
