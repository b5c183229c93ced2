"""Cause faults of the service, one after the other, and print a row for each.

::

    python -m tests.faults --short
    python -m tests.faults --long --seed 7 --minutes 10
    python -m tests.faults --only broker-killed --only agent-killed+resolver-killed

The exit status is 0 only if no event was lost, handled twice or out of order, no answer was
late, no event was answered 503 while the database was available, and after each fault
the service worked normally again and held no event.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shutil
import signal
import sys
import time
import unittest

import fixtures

from tests.faults import broker
from tests.faults import busy
from tests.faults import catalogue
from tests.faults import database
from tests.faults import on_broker  # noqa: F401 - the import registers the faults of each module
from tests.faults import on_cluster  # noqa: F401
from tests.faults import on_database  # noqa: F401
from tests.faults import on_migration  # noqa: F401
from tests.faults import on_network  # noqa: F401
from tests.faults import on_processes  # noqa: F401
from tests.faults import run
from tests.faults import site as sites
from tests.faults import table

DATABASES = {'mariadb': database.MariaDB, 'postgresql': database.PostgreSQL, 'sqlite': database.SQLite}

BROKERS = {catalogue.SINGLE: broker.Broker, catalogue.CLUSTER: broker.Cluster}

#: The kind of database with a small disk.
SMALL = 'sqlite'

#: Default duration of the random order.
RANDOM_MINUTES = 5.0

#: Seconds until the service must work normally again: an event is held for this time by default.
RECOVERY_LIMIT = {'short': 60.0, 'long': 300.0}


#: Seconds until a run is stopped.
LONGEST = 4 * 3600


@dataclasses.dataclass(frozen=True)
class Stage:
    """The faults that one site is exposed to.

    :ivar plan: groups of simultaneous faults, in this order
    :ivar pool: faults that follow in random order
    :ivar minutes: duration of the random order
    """

    database: str
    broker: str
    plan: list[list[catalogue.Fault]]
    pool: list[catalogue.Fault] = dataclasses.field(default_factory=list)
    minutes: float = 0.0


def main():
    """Run the faults and print the result.

    :returns: the exit status
    """
    args = _arguments()
    if args.list:
        print('\n'.join(f'{each.name:<28}{each.text}' for each in catalogue.FAULTS.values()))
        return 0
    began, rows, unsent = time.monotonic(), [], []
    for stage in _stages(args):
        try:
            _break(stage, args, rows, unsent)
        except fixtures.MultipleExceptions as failed:
            reason = _why_skipped(failed)
            if reason is None:
                raise
            print(f'left out: {", ".join(_names(faults) for faults in stage.plan)}: {reason}')
    print(f'\n{table.as_text(rows)}')
    print('\n'.join(line for row in rows for line in table.details(row)))
    failed = sum(row.failed for row in rows)
    print(f'{time.monotonic() - began:.0f} s, {failed} of {len(rows)} failed, {len(unsent)} never sent')
    if args.rst:
        args.rst.write_text(table.as_rst(rows) + '\n')
    return 1 if failed or unsent or not rows else 0


def _break(stage, args, rows, unsent):
    """Add the results of a stage to the rows."""
    timing = catalogue.Timing(short=args.short)
    recovery_limit = RECOVERY_LIMIT['short' if args.short else 'long']
    made = BROKERS[stage.broker](), DATABASES[stage.database]()
    size = sites.Size(args.hosts, args.senders, args.batches, args.pause)
    with sites.Site(
        *made, recovery_limit=recovery_limit, size=size, options=args.set, seed=args.seed
    ) as site:
        runner = run.Runner(site, timing, _report)
        try:
            # NOTE: the time limit begins after the start of the site, which takes minutes.
            with busy.Busy(args.busy, seconds=LONGEST), site.loaded():
                for faults in stage.plan:
                    runner.run(*faults)
                if stage.minutes:
                    order = runner.run_random(stage.pool, seed=args.seed, seconds=stage.minutes * 60)
                    print(f'in random order: {", ".join(order)}')
            unsent += runner.judge()
        finally:
            rows += runner.rows
            if args.keep:
                shutil.copytree(
                    site.router.folder, args.keep / f'{stage.database}-{stage.broker}', dirs_exist_ok=True
                )


def _arguments():
    parser = argparse.ArgumentParser(prog='python -m tests.faults', description=__doc__.splitlines()[0])
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--short', action='store_true', help='the most important faults, in under 5 minutes')
    form.add_argument(
        '--long', action='store_true', help='all faults, some in pairs, then in random order (default)'
    )
    parser.add_argument(
        '--only',
        action='append',
        metavar='NAME',
        help='these faults, long form; a+b: at once',
    )
    form.add_argument('--random', action='store_true', help='only the random order of all faults')
    parser.add_argument('--list', action='store_true', help='list the faults')
    parser.add_argument('--database', choices=sorted(DATABASES), default='mariadb')
    sites.add_set_argument(parser)
    size = sites.Size()
    parser.add_argument('--hosts', type=int, default=size.hosts, help='hosts, in three agent processes')
    parser.add_argument('--senders', type=int, default=size.senders, help='senders of the steady load')
    parser.add_argument(
        '--batches',
        type=_sizes,
        default=size.batch_sizes,
        metavar='FROM-TO',
        help='events of a batch',
    )
    parser.add_argument(
        '--pause', type=float, default=size.pause, help='seconds between two batches of a sender'
    )
    parser.add_argument('--busy', type=int, default=0, metavar='N', help='busy processes beside the services')
    parser.add_argument('--seed', type=int, default=1, help='seed of the load and the random order')
    parser.add_argument(
        '--minutes', type=float, help=f'duration of the random order; default: {RANDOM_MINUTES:g}'
    )
    parser.add_argument('--rst', type=pathlib.Path, help='also write the table into this file')
    parser.add_argument('--keep', type=pathlib.Path, help='copy logs and ledger into this folder')
    return parser.parse_args()


def _sizes(text):
    """The sizes ``FROM-TO`` of batches, all equally frequent."""
    first, _, last = text.partition('-')
    return range(int(first), int(last or first) + 1)


def _stages(args):
    there = {name: fault for name, fault in catalogue.FAULTS.items() if args.database in fault.databases}
    everything = list(there.values())
    if args.only:
        return _by_broker(args, [[there[name] for name in names.split('+')] for names in args.only])
    single = [fault for fault in everything if fault.broker == catalogue.SINGLE]
    if args.random:
        return [Stage(args.database, catalogue.SINGLE, [], single, args.minutes or RANDOM_MINUTES)]
    if args.short:
        return _by_broker(args, [[fault] for fault in everything if fault.in_short])
    single_stage, *others = _by_broker(args, [*([fault] for fault in everything), *run.pairs(there)])
    minutes = RANDOM_MINUTES if args.minutes is None else args.minutes
    small = [[fault] for fault in catalogue.FAULTS.values() if fault.databases == (SMALL,)]
    return [
        dataclasses.replace(single_stage, pool=single, minutes=minutes),
        *others,
        Stage(SMALL, catalogue.SINGLE, small),
    ]


def _by_broker(args, plan):
    """Make a stage for each kind of broker that a plan needs."""
    stages = []
    for kind in BROKERS:
        own = [faults for faults in plan if faults[0].broker == kind]
        if own:
            pool = [fault for faults in own for fault in faults]
            stages.append(Stage(args.database, kind, own, pool, (args.minutes or 0.0) if args.only else 0.0))
    return stages


def _names(faults):
    return ' + '.join(fault.name for fault in faults)


def _why_skipped(failed):
    """The missing requirement of this machine because of which a fixture failed; else None."""
    for _kind, exc, _traceback in failed.args:
        if isinstance(exc, unittest.SkipTest):
            return str(exc)
        if isinstance(exc, fixtures.MultipleExceptions) and (reason := _why_skipped(exc)):
            return reason
    return None


def _report(row):
    print(table.as_text([row]).splitlines()[1], flush=True)
    for line in table.details(row):
        print(line, flush=True)


def _end(number, frame):
    """Raise an exception, so that all started processes are ended, too."""
    sys.exit(128 + number)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, _end)
    with fixtures.Timeout(LONGEST, gentle=True):
        sys.exit(main())
