"""Instances of a cell: one query for a batch, and the data in its rows."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.resolver.drivers.nova import objects
from external_events_router.resolver.drivers.nova import tables


@dataclasses.dataclass(frozen=True, slots=True)
class Instance:
    """Data about an instance.

    :ivar hosts: names of its hosts in Nova: none, its own, or its own and the hosts of its current
        migration; sorted
    :ivar across_cells: the migration goes to another cell
    :ivar deleted: the instance was deleted
    :ivar primitive: the object in messages
    """

    hosts: tuple[str, ...]
    across_cells: bool
    deleted: bool
    primitive: Mapping[str, Any]


def fetch(
    database: session.Database, uuids: Collection[str]
) -> dict[str, Instance | exceptions.MalformedMessage]:
    """Return the given instances that a cell contains, or an exception for an instance with a damaged row.

    :raises DatabaseUnavailable: the database of the cell is unavailable
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in _select(database, uuids):
        rows.setdefault(row['uuid'], []).append(row)
    found: dict[str, Instance | exceptions.MalformedMessage] = {}
    for uuid, of_instance in rows.items():
        try:
            found[uuid] = _read(of_instance)
        except exceptions.MalformedMessage as exc:
            found[uuid] = exc
        except Exception as exc:
            # A damaged row must not affect other instances.
            found[uuid] = exceptions.MalformedMessage(what='instance', value=type(exc).__name__)
    return found


@session.retried
def _select(database: session.Database, uuids: Collection[str]) -> list[Mapping[str, Any]]:
    with database.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(query(database, uuids))]


def query(database: session.Database, uuids: Collection[str]) -> sa.Select[Any]:
    """Return the query, with one row per instance, or per migration of an instance that migrates."""
    instances, caches = tables.instances, tables.instance_info_caches
    extra, migrations = tables.instance_extra, tables.migrations
    return (
        sa.select(
            *instances.columns,
            caches.c.id.label('cache_id'),
            *(
                caches.c[name].label(f'cache_{name}')
                for name in ('created_at', 'updated_at', 'deleted_at', 'deleted')
            ),
            caches.c.network_info,
            extra.c.migration_context,
            migrations.c.id.label('migration_id'),
            migrations.c.source_compute,
            migrations.c.dest_compute,
            migrations.c.cross_cell_move,
        )
        .select_from(
            instances.outerjoin(caches, caches.c.instance_uuid == instances.c.uuid)
            .outerjoin(extra, extra.c.instance_uuid == instances.c.uuid)
            # NOTE: the id of the current migration is inside the JSON of the migration context. Reading
            # all migrations of the few instances with a context takes less time than a second query.
            .outerjoin(
                migrations,
                (migrations.c.instance_uuid == instances.c.uuid)
                & (migrations.c.deleted == 0)
                & extra.c.migration_context.is_not(None),
            )
        )
        .where(
            database.among(instances.c.uuid, uuids),
            # Without the copy in the other cell, of an instance that moves there.
            instances.c.hidden.is_(None) | (instances.c.hidden == sa.false()),
        )
    )


def _read(rows: Iterable[Mapping[str, Any]]) -> Instance:
    rows = list(rows)
    first = rows[0]
    hosts = {first['host']}
    across_cells = False
    wanted = objects.migration_id(first)
    for row in rows:
        if wanted is not None and row['migration_id'] == wanted:
            hosts |= {row['source_compute'], row['dest_compute']}
            across_cells = bool(row['cross_cell_move'])
    return Instance(
        # An instance without a host has no hosts, whatever its migration contains.
        hosts=tuple(sorted(host for host in hosts if host)) if first['host'] else (),
        across_cells=across_cells,
        deleted=bool(first['deleted']),
        primitive=objects.instance(first),
    )
