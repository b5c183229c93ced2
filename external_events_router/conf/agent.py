"""``[agent]``: the agent on a compute host."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('agent', title='The agent on a compute host')

OPTS: list[cfg.Opt] = [
    cfg.ListOpt(
        'hosts',
        default=[],
        help="""
Hosts that the agent stands for, where ``--host`` is not given. Empty: the one
of ``[DEFAULT] host``.
""",
    ),
    cfg.ListOpt(
        'handlers',
        default=['log'],
        mutable=True,
        help="""
Handlers of every event, in the order in which they are called, up to the first
that does not handle it: ``log`` writes a line, ``exec`` runs a command (see
``[exec]``), others are entry points in ``external_events_router.agent.handlers``.
""",
    ),
    cfg.StrOpt(
        'source',
        default='none',
        help="""
Where the agent learns which servers are on its host, an entry point in
``external_events_router.agent.sources``: ``none`` (it does not know, reports
none and takes every event as its own), ``file`` (see ``source_file``).
""",
    ),
    cfg.StrOpt(
        'source_file',
        help="""
JSON lines of the ``file`` source, as ``external-events-manage host-map export``
writes them; the lines that name this host are its servers. Read again when it
changes.
""",
    ),
    cfg.FloatOpt(
        'report_interval',
        default=60.0,
        min=0.1,
        help="""
Seconds between two reports of the host's servers to the resolver. A change that
the source tells is reported at once.
""",
    ),
    cfg.IntOpt(
        'workers',
        default=64,
        min=1,
        max=4096,
        help="""
Servers whose events one agent process handles at the same time. Events of one
server are always handled one after the other.
""",
    ),
    cfg.IntOpt(
        'remembered_events',
        default=100000,
        min=1,
        help='Events that are remembered, so that one sent twice is handled once.',
    ),
    cfg.FloatOpt(
        'remembered_seconds',
        default=900.0,
        min=1.0,
        help='Seconds for which a handled event is remembered.',
    ),
    cfg.FloatOpt(
        'stop_timeout',
        default=30.0,
        min=0.0,
        help="""
Seconds that a stopping agent gives to the events it has in hand. Those that are
not handled then are not acknowledged. Related: ``[exec] timeout``.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
