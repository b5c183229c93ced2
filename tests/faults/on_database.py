"""Faults of the database.

Where it matters, an agent process is down during the fault: without held events,
the delivery of an event writes no row.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading

import sqlalchemy as sa

from tests.faults import catalogue
from tests.integration import deployment

#: Kinds of database with a server process, so not SQLite.
SERVERS = ('mariadb', 'postgresql')


@catalogue.fault(
    'database-restarted', affects='database', in_short=True, databases=SERVERS, breaks_database=True
)
def restarted(site, timing):
    """The database restarted in order, 3 times."""
    for _ in timing.times(3, short=1):
        site.database.stop()
        site.database.start()
        timing.last(3, short=1)


@catalogue.fault('database-killed', affects='database', databases=SERVERS, breaks_database=True)
def killed(site, timing):
    """The database killed, started again after 10 s."""
    site.database.kill()
    timing.last(10, short=3)
    site.database.start()


@catalogue.fault('database-away', affects='database agents-a', databases=SERVERS, breaks_database=True)
def away(site, timing):
    """The database away for 10 s, while an agent process is away too."""
    with _away(site, timing, 'agents-a'):
        site.database.stop()
        timing.last(10, short=3)
        site.database.start()
        timing.last(5, short=1)


@catalogue.fault(
    'database-frozen', affects='database agents-a', in_short=True, databases=SERVERS, breaks_database=True
)
def frozen(site, timing):
    """The database frozen (SIGSTOP) for 10 s, while an agent process is away."""
    with _away(site, timing, 'agents-a'):
        with site.database.frozen():
            timing.last(10, short=4)
        timing.last(5, short=1)


@catalogue.fault('database-cut', affects='database agents-a', databases=SERVERS, breaks_database=True)
def cut(site, timing):
    """Every connection to the database cut, 5 times, while an agent process is away."""
    with _away(site, timing, 'agents-a'):
        for _ in timing.times(5, short=2):
            site.database.cut()
            timing.last(2, short=1)


@catalogue.fault('database-deadlocks', affects='database agents-a', databases=SERVERS)
def deadlocks(site, timing):
    """Others lock the service's rows in all orders for 20 s, while an agent process comes and goes."""
    stop = threading.Event()
    lockers = [threading.Thread(target=_lock, args=(site.database, seed, stop)) for seed in range(3)]
    for locker in lockers:
        locker.start()
    try:
        for _ in timing.times(3, short=1):
            with _away(site, timing, 'agents-a'):
                timing.last(5, short=3)
    finally:
        stop.set()
        for locker in lockers:
            locker.join(deployment.PATIENCE)


@catalogue.fault('disk-full', affects='database agents-a', databases=('sqlite',), breaks_database=True)
def disk_full(site, timing):
    """The disk full under SQLite for 10 s, while an agent process is away."""
    with _away(site, timing, 'agents-a'):
        with site.database.full():
            timing.last(10, short=4)
        timing.last(5, short=1)


@catalogue.fault(
    'disk-full-agent-back', affects='database agents-a', databases=('sqlite',), breaks_database=True
)
def disk_full_at_return(site, timing):
    """The disk full under SQLite for 10 s, while an agent process comes back."""
    with contextlib.ExitStack() as stack:
        with _away(site, timing, 'agents-a'):
            timing.last(3, short=2)
            stack.enter_context(site.database.full())
        timing.last(10, short=4)


@contextlib.contextmanager
def _away(site, timing, name):
    """Within the block, an agent process is killed, and events for its hosts are posted."""
    agents = site.router.agents[name]
    agents.stop(number=signal.SIGKILL)
    timing.last(2, short=2)
    try:
        yield
    finally:
        site.start_agents(agents)


def _lock(database, seed, stop):
    """Write rows of every table back as they are, in transactions that cross each other."""
    rnd = random.Random(seed)
    with database.connection() as connection:
        tables = [table for table in _tables(connection) if table.name != 'alembic_version']
        while not stop.is_set():
            with contextlib.suppress(sa.exc.DBAPIError):
                _cross(connection, tables, rnd, stop)


def _tables(connection):
    metadata = sa.MetaData()
    metadata.reflect(connection)
    return metadata.sorted_tables


def _cross(connection, tables, rnd, stop):
    connection.exec_driver_sql('BEGIN')
    try:
        for table in rnd.sample(tables, len(tables)):
            keys = list(table.primary_key.columns)
            rows = connection.execute(sa.select(*keys).limit(50)).all()
            for row in rnd.sample(rows, min(3, len(rows))):
                own = sa.and_(*(key == value for key, value in zip(keys, row, strict=True)))
                connection.execute(sa.update(table).where(own).values({keys[0].name: row[0]}))
                stop.wait(0.01)
    finally:
        connection.exec_driver_sql('ROLLBACK')
