"""Checks of an installation in front of Nova: API database, databases and brokers of the cells, grants."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.doctor import base
from external_events_router.doctor import broker as broker_checks
from external_events_router.doctor import databases
from external_events_router.messaging import rpc
from external_events_router.resolver.drivers.nova import cells
from external_events_router.resolver.drivers.nova import tables

_API = '[nova] api_connection'

_SELECT = {'SELECT': databases.STATEMENTS['SELECT']}

#: The service creates instance actions, and changes nothing else. The column excludes generated values.
_INSERT = {
    'INSERT': 'INSERT INTO {table} (request_id, deleted) SELECT request_id, deleted FROM {table} WHERE 1 = 0'
}

_GRANTS = (
    'GRANT SELECT on the tables, and INSERT on instance_actions in each cell (see "In front of Nova" in the '
    'documentation)'
)


def check_cells(site: base.Site) -> base.Result:
    """Read the cell mappings, and log in to the database and the broker of each cell."""
    if site.conf.host_map.backend != 'nova':
        return base.unused('[host_map] backend is not nova')
    rows = _mappings(_api(site))
    if not rows:
        return base.fail('the API database maps no cells', 'nova-manage cell_v2 list_cells; correct ' + _API)
    problems, found = [], []
    for row in rows:
        try:
            cell = cells.Urls.from_conf(site.conf).cell(row)
        except Exception as exc:  # of this cell alone
            problems.append(cells.unusable(row, exc))
            continue
        reasons = list(_unreachable(site, cell))
        problems += [f'{cell}: {reason}' for reason in reasons]
        found += [] if reasons else [str(cell)]
    if problems:
        return base.fail('; '.join(problems), 'correct the cell mapping: nova-manage cell_v2 update_cell')
    return base.ok(base.few(found))


def _unreachable(site: base.Site, cell: cells.Cell) -> Iterator[str]:
    """Yield why the database or the broker of a cell cannot be used."""
    try:
        database = site.database_at(cell.database, option=f'database_connection of {cell}')
        with session.translated(), database.reading() as connection:
            connection.execute(sa.text('SELECT 1'))
    except exceptions.RouterError as exc:
        yield f'database: {exc}'
    if not cell.transport or cell.transport.startswith('none'):
        # The cell for servers that no host accepted.
        return
    try:
        rpc.get_transport_at(site.conf, cell.transport, source=f'transport_url of {cell}').cleanup()
        broker = rpc.get_broker(site.conf, url=cell.transport, exchange=site.conf.nova.control_exchange)
        if broker is not None:
            with broker_checks.connected(broker, 'cell'):
                pass
    except exceptions.RouterError as exc:
        yield f'broker: {exc}'


def check_grants(site: base.Site) -> base.Result:
    """Execute the kinds of statements of the service, without any effect on rows."""
    if site.conf.host_map.backend != 'nova':
        return base.unused('[host_map] backend is not nova')
    api = _api(site)
    refused = [
        f'{each} ({_API})' for each in databases.refused_statements(api, tables.api.sorted_tables, _SELECT)
    ]
    for row in _mappings(api):
        try:
            cell = cells.Urls.from_conf(site.conf).cell(row)
            database = site.database_at(cell.database, option=f'database_connection of {cell}')
            found = [
                *databases.refused_statements(database, tables.cell.sorted_tables, _SELECT),
                *databases.refused_statements(database, [tables.instance_actions], _INSERT),
            ]
        except exceptions.RouterError:
            # Another check reports the cell.
            continue
        refused += [f'{each} ({cell})' for each in found]
    if refused:
        return base.fail(f'the user must not {base.few(refused)}', _GRANTS)
    return base.ok('the tables can be read, and instance actions can be written')


def _api(site: base.Site) -> session.Database:
    return site.database_at(site.conf.nova.api_connection, option=_API)


@session.retried
def _mappings(database: session.Database) -> list[Mapping[str, Any]]:
    with database.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(*cells.COLUMNS))]


CHECKS = (
    base.Check('nova-cells', check_cells, services=base.WITH_DATABASE, timeout=30.0),
    base.Check('nova-grants', check_grants, services=base.WITH_DATABASE, needs=('nova-cells',), timeout=30.0),
)
