"""``[journal]``: the record of all events and their results."""

from __future__ import annotations

from oslo_config import cfg

GROUP = cfg.OptGroup('journal', title='The journal of events and their results')

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        'record',
        default='all',
        choices=[
            ('all', 'Each event, each later step, and each refused request'),
            ('problems', 'Only events that were held or not delivered, their steps, and refused requests'),
            ('none', 'Nothing'),
        ],
        help="""
The records that the resolvers write to the database. With ``all``, ``external-events-manage
explain`` can state that no event arrived for a server; with ``problems`` it cannot,
because a missing event may have been delivered. Change it to ``problems`` or
``none`` if the database cannot take a row for each event. Set the same value on
all machines.
""",
    ),
    cfg.FloatOpt(
        'keep',
        default=7 * 86400.0,
        min=3600.0,
        help="""
Seconds for which records are kept; older ones are deleted continuously. A row takes
about 0.5 kB with its indexes. Related: ``max_rows``.
""",
    ),
    cfg.IntOpt(
        'max_rows',
        default=50_000_000,
        min=1000,
        max=10_000_000_000,
        help="""
Number of events that the journal keeps at most; the oldest records are deleted
before the time in ``keep`` if there are more. 50 million take about 25 GB.
""",
    ),
    cfg.StrOpt(
        'connection',
        secret=True,
        help="""
URL of the database of the journal. Unset: that of ``[database] connection``. Use a
separate database if the journal must not compete with held events for the disk.
``external-events-manage db upgrade`` creates the tables in both. The other options
of ``[database]`` apply to both.
""",
    ),
    cfg.IntOpt(
        'queue_size',
        default=50_000,
        min=100,
        max=10_000_000,
        help="""
Number of records that a resolver worker keeps in memory until they are written. A
batch never waits for the journal: records that do not fit are not written, and the
journal contains the period of the gap. A record takes about 1 kB; 50,000 are the
events of 10 s at 5,000 events/s.
""",
    ),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    return [(GROUP.name, OPTS)]
