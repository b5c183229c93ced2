"""Break the service, one thing after the other, and print a row for each.

::

    python -m tests.faults --short
    python -m tests.faults --long --seed 7 --minutes 10
    python -m tests.faults --only broker-killed --only agent-killed+resolver-killed

The exit status is 0 only if nothing was lost, doubled, out of order or overdue,
and everything was back to normal, with nothing held, after each.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
import sys
import time

import fixtures

from tests.faults import catalogue
from tests.faults import clock
from tests.faults import database
from tests.faults import on_broker  # noqa: F401 - registers its faults, as the others do
from tests.faults import on_database  # noqa: F401
from tests.faults import on_network  # noqa: F401
from tests.faults import on_processes  # noqa: F401
from tests.faults import run
from tests.faults import site as sites
from tests.faults import table

DATABASES = {'mariadb': database.MariaDB, 'postgresql': database.PostgreSQL}

#: Seconds in which all must be well again: an event is held for as long, by default.
PATIENCE = {'short': 60.0, 'long': 300.0}


def main():
    """Run, print, and say whether all was well.

    :returns: the exit status
    """
    args = _arguments()
    plan = _plan(args)
    if args.list:
        print('\n'.join(f'{each.name:<28}{each.text}' for each in catalogue.FAULTS.values()))
        return 0
    began = time.monotonic()
    rows, done, strangers = _break(args, plan)
    print()
    print(table.as_text(rows))
    for row in rows:
        for line in table.details(row):
            print(line)
    if strangers:
        print('handled, but never sent:', ', '.join(strangers))
    if done:
        print('in random order:', ', '.join(done))
    print(f'{time.monotonic() - began:.0f} s in all, {sum(row.failed for row in rows)} of {len(rows)} failed')
    if args.rst:
        args.rst.write_text(table.as_rst(rows) + '\n')
    return 1 if not rows or strangers or any(row.failed for row in rows) else 0


def _break(args, plan):
    done, strangers = [], []
    patience = PATIENCE['short' if args.short else 'long']
    with sites.Site(DATABASES[args.database](), patience=patience, seed=args.seed) as site:
        runner = run.Runner(site, catalogue.Pace(short=args.short), _report)
        try:
            with site.loaded():
                for chosen in plan:
                    runner.run(*chosen)
                if args.minutes:
                    pool = list({fault.name: fault for chosen in plan for fault in chosen}.values())
                    done = runner.run_random(pool, seed=args.seed, seconds=args.minutes * 60)
            strangers = runner.judge()
        finally:
            if args.keep:
                shutil.copytree(site.router.folder, args.keep, dirs_exist_ok=True)
    return runner.rows, done, strangers


def _arguments():
    parser = argparse.ArgumentParser(prog='python -m tests.faults', description=__doc__.splitlines()[0])
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument('--short', action='store_true', help='the most telling ones, in under 5 minutes')
    form.add_argument('--long', action='store_true', help='all, some in pairs, then in random order')
    form.add_argument(
        '--only', action='append', metavar='NAME', help='these, as long as they last; a+b: at once'
    )
    form.add_argument('--list', action='store_true', help='say which there are')
    parser.add_argument('--database', choices=sorted(DATABASES), default='mariadb')
    parser.add_argument('--seed', type=int, default=1, help='of the load and the random order')
    parser.add_argument('--minutes', type=float, help='how long the random order lasts; --long: 5')
    parser.add_argument('--rst', type=pathlib.Path, help='write the table into this file, too')
    parser.add_argument('--keep', type=pathlib.Path, help='copy logs and ledger into this folder')
    args = parser.parse_args()
    if args.minutes is None:
        args.minutes = 5.0 if args.long else 0.0
    return args


def _plan(args):
    """What to break, in turn: lists of faults that come at once."""
    there = {
        name: fault
        for name, fault in catalogue.FAULTS.items()
        if fault.database in (None, args.database) and (name != 'clocks' or clock.is_there())
    }
    if args.only:
        return [[there[name] for name in names.split('+')] for names in args.only]
    if args.short:
        return [[fault] for fault in there.values() if fault.in_short]
    return [*([fault] for fault in there.values()), *run.pairs(there)]


def _report(row):
    print(table.as_text([row]).splitlines()[1], flush=True)
    for line in table.details(row):
        print(line, flush=True)


if __name__ == '__main__':
    with fixtures.Timeout(4 * 3600, gentle=True):
        sys.exit(main())
