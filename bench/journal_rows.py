"""``python -m bench.journal_rows``: builds a large journal on MariaDB, and measures reads and inserts.

The rows are those of a cloud of 50,000 servers on 1,000 hosts in seven days. MariaDB makes them
itself, from its sequence engine: 50 million take about an hour. The database stays, so that it can
be measured again without ``--rows``::

    python -m bench.journal_rows --rows 50000000
    python -m bench.journal_rows
    python -m bench.journal_rows --drop

Reads are what ``explain`` reads for a server; inserts are the transactions of a writer, in turns
into the full journal and into an empty one.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time

from oslo_config import cfg
import sqlalchemy as sa

from bench import tables
from external_events_router import conf as router_conf
from external_events_router.db import migration
from external_events_router.db import session
from external_events_router.journal import completeness
from external_events_router.journal import reads
from external_events_router.journal import records
from external_events_router.journal import store
from tests.integration import services
from tests.unit.journal import rows as made_rows

#: Databases that the command makes.
FULL, EMPTY = 'eer_bench_journal', 'eer_bench_journal_empty'

SERVERS = 50_000
HOSTS = 1000
DAYS = 7

#: Rows of one statement that builds the journal.
STEP = 100_000

#: Reads of each kind; rows of one transaction, transactions of a round, and rounds.
READS = 50
GROUP = 500
GROUPS = 20
ROUNDS = 5

PERIODS = {'1 h': records.HOUR, '24 h': 24 * records.HOUR, '7 d': DAYS * 24 * records.HOUR}

NAMES = {
    'server': f"concat(lpad(hex(mod(seq * 7919, {SERVERS})), 8, '0'), '-0000-4000-8000-000000000001')",
    'servers': SERVERS,
    'tags': 2 * SERVERS,
    'hosts': HOSTS,
}

#: One request for each event; times advance evenly.
EVENTS = """
INSERT INTO journal_events SELECT
  :start + seq * :gap, 1 + mod(seq, 8), seq, (:start + seq * :gap) DIV 3600000000,
  concat(lpad(hex(seq), 8, '0'), '-1111-4000-8000-000000000001'), lower({server}),
  elt(1 + mod(seq, 4), 'network-vif-plugged', 'network-changed', 'volume-extended', 'network-vif-deleted'),
  lower(concat(lpad(hex(mod(seq * 104729, {tags})), 8, '0'), '-2222-4000-8000-000000000001')),
  'completed', 200, if(mod(seq, 500) = 0, 'held_silent_host', 'acknowledged'),
  if(mod(seq, 500) = 0, 'held: no acknowledgement in time', NULL),
  concat('compute-', lpad(mod(seq * 7919, {servers}) MOD {hosts}, 4, '0'), '.example.org'),
  NULL, 8, 1, 1200, 'neutron', 2, 0
FROM seq_{first}_to_{last}
"""
REQUESTS = """
INSERT INTO journal_requests SELECT
  :start + seq * :gap, 1 + mod(seq, 8), seq, (:start + seq * :gap) DIV 3600000000, 1,
  concat('req-', lpad(hex(seq), 8, '0'), '-3333-4000-8000-000000000001'),
  concat('req-', lpad(hex(seq), 8, '0'), '-4444-4000-8000-000000000001'),
  '7a3f0c5d1e2b4f6a8c9d0e1f2a3b4c5d', '1f2e3d4c5b6a79880716253443526170', 10
FROM seq_{first}_to_{last}
"""


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog='python -m bench.journal_rows', description='Measure a large journal.'
    )
    parser.add_argument(
        '--rows', type=int, default=0, help='events to build; 0: measure the existing journal'
    )
    parser.add_argument('--drop', action='store_true', help='drop the databases, and do nothing else')
    options = parser.parse_args(argv)
    if options.drop:
        _on_server(*(f'DROP DATABASE IF EXISTS {name}' for name in (FULL, EMPTY)))
        return 0
    if options.rows:
        build(options.rows)
    full = _open(FULL)
    print(f'{_count(full):,} events', flush=True)
    measure_reads(full)
    measure_inserts(full)
    full.close()
    return 0


def build(number):
    """Build a journal of so many events."""
    _on_server(f'DROP DATABASE IF EXISTS {FULL}', f'CREATE DATABASE {FULL}')
    database = _open(FULL)
    migration.upgrade(database)
    now = reads.Reader(database).now()
    period = DAYS * 24 * records.HOUR
    bound = {'start': now - period, 'gap': max(1, period // number)}
    began = time.monotonic()
    for first in range(1, number + 1, STEP):
        last = min(number, first + STEP - 1)
        with database.writing() as connection:
            for statement in (EVENTS, REQUESTS):
                connection.execute(sa.text(statement.format(**NAMES, first=first, last=last)), bound)
        if first % (STEP * 10) == 1:
            print(f'{last:,} of {number:,} events after {time.monotonic() - began:.0f} s', flush=True)
    with database.writing() as connection:
        connection.exec_driver_sql('ANALYZE TABLE journal_events, journal_requests')
    database.close()


def measure_reads(database):
    """What ``explain`` reads: events, steps, refusals and gaps of a server and a period."""
    reader, rnd, table = reads.Reader(database), random.Random(1), []
    for name, length in PERIODS.items():
        seconds = []
        for _ in range(READS):
            selection = reads.Selection(server_uuid=_server(rnd))
            now = reader.now()
            period = reads.Period(now - length, now, newest_first=True)
            began = time.monotonic()
            reader.events(selection, period, limit=500)
            reader.steps(selection, period, limit=2000)
            reader.refusals(period, limit=1000)
            completeness.gaps(database, period.since, period.until)
            seconds.append(time.monotonic() - began)
        table.append([name, statistics.median(seconds) * 1000, max(seconds) * 1000])
    tables.show(['period', 'median ms', 'max ms'], table, title='Reads of explain for one server')


def measure_inserts(full):
    """Transactions of a writer, in turns into the full journal and an empty one."""
    _on_server(f'DROP DATABASE IF EXISTS {EMPTY}', f'CREATE DATABASE {EMPTY}')
    empty = _open(EMPTY)
    migration.upgrade(empty)
    rates = {'full': [], 'empty': []}
    for turn in range(ROUNDS):
        for name, database in (('full', full), ('empty', empty)):
            rates[name].append(_insert_round(database, turn))
    medians = {name: statistics.median(many) for name, many in rates.items()}
    table = [[name, rate, rate / medians['empty']] for name, rate in medians.items()]
    tables.show(['journal', 'events/s', 'ratio'], table, title='Inserts of one writer, medians of rounds')
    empty.close()
    _on_server(f'DROP DATABASE {EMPTY}')


def _insert_round(database, turn):
    """Insert some groups; events/s."""
    journal, rnd = store.Store(database), random.Random(turn)
    journal.synchronize()
    identity = store.Identity(f'bench:{turn}', 'bench', 'bench', 1, 'all')
    worker = journal.register(identity, time.monotonic())
    groups = []
    for group in range(GROUPS):
        at = journal.clock(time.monotonic()) + group * 250_000
        groups.append(
            {
                'journal_events': [_event(rnd, at + seq, worker, seq) for seq in range(GROUP)],
                'journal_requests': [
                    tuple(made_rows.request(at + seq, worker=worker, seq=seq).values())
                    for seq in range(GROUP)
                ],
            }
        )
    began = time.monotonic()
    for rows in groups:
        journal.write(worker, rows, store.Progress(0, 0))
    taken = time.monotonic() - began
    journal.stop(worker, until=journal.clock(time.monotonic()))
    return GROUP * GROUPS / taken


def _event(rnd, at, worker, seq):
    server = _server(rnd)
    return tuple(
        made_rows.event(
            at,
            worker=worker,
            seq=seq,
            server_uuid=server,
            event_id=f'{rnd.getrandbits(32):08x}-1111-4000-8000-000000000001',
            tag=f'{rnd.getrandbits(32):08x}-2222-4000-8000-000000000001',
            hosts=(f'compute-{rnd.randrange(HOSTS):04d}.example.org',),
        ).values()
    )


def _server(rnd):
    return f'{rnd.randrange(SERVERS):08x}-0000-4000-8000-000000000001'


def _count(database):
    with database.reading() as connection:
        query = 'SELECT table_rows FROM information_schema.tables WHERE table_schema = database() '
        return connection.exec_driver_sql(query + "AND table_name = 'journal_events'").scalar()


def _open(name):
    conf = cfg.ConfigOpts()
    router_conf.register_all(conf)
    conf([])
    url = sa.make_url(services.MySQL.ADDRESS).set(database=name)
    return session.Database.at(conf, url.render_as_string(hide_password=False), read_timeout=600.0)


def _on_server(*statements):
    engine = sa.create_engine(services.MySQL.ADDRESS, isolation_level='AUTOCOMMIT')
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


if __name__ == '__main__':
    sys.exit(main())
