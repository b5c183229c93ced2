"""``[exec]``: the handler that runs an operator's command per event."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('exec', title='The exec handler of the agent')

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
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
