"""``[agent]``: the agent on a compute host."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('agent', title='The agent on a compute host')

OPTS: list[cfg.Opt] = [
    cfg.ListOpt(
        'hosts',
        default=[],
        help="""
Hosts whose events the agent receives, if ``--host`` is not given. Empty: the host
``[DEFAULT] host``.
""",
    ),
    cfg.ListOpt(
        'handlers',
        default=['log'],
        mutable=True,
        help="""
Handlers that are called for each event, in this order. If a handler does not handle
the event, the agent does not call the handlers after it. ``log`` writes a log message,
``exec`` runs a command (see ``[exec]``). Other values are names of entry points in
``external_events_router.agent.handlers``.
""",
    ),
    cfg.StrOpt(
        'source',
        default='none',
        help="""
Source of the list of servers on the host: the name of an entry point in
``external_events_router.agent.sources``. ``none``: the agent does not know the servers
of the host, reports none, and accepts every event. ``file``: see ``source_file``.
""",
    ),
    cfg.StrOpt(
        'source_file',
        help="""
File for ``source = file``, with one JSON object per line, in the format of
``external-events-manage host-map export``. The lines that contain this host name its
servers. The agent reads the file again when it changes.
""",
    ),
    cfg.FloatOpt(
        'report_interval',
        default=60.0,
        min=0.1,
        max=86400.0,
        help="""
Seconds between two reports of the servers of the host to the resolver. If the source
detects a change, the agent reports it immediately.
""",
    ),
    cfg.IntOpt(
        'workers',
        default=64,
        min=1,
        max=4096,
        help="""
Number of servers whose events one agent process handles at the same time. Events of
the same server are always handled one after the other.
""",
    ),
    cfg.IntOpt(
        'remembered_events',
        default=100000,
        min=1,
        help='Number of handled events that the agent remembers, so that it does not handle them twice.',
    ),
    cfg.FloatOpt(
        'remembered_seconds',
        default=900.0,
        min=1.0,
        max=604800.0,
        help='Seconds for which the agent remembers a handled event.',
    ),
    cfg.FloatOpt(
        'stop_timeout',
        default=30.0,
        min=0.0,
        max=3600.0,
        help="""
Seconds that a stopping agent waits for the events that it is handling. Events that are
not handled in this time are not acknowledged. Related: ``[exec] timeout``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
