"""Instances of a cell: one query for a batch, and what its rows say of each."""

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
    """What is known of an instance.

    :ivar hosts: Nova's names of the hosts that are concerned: none, its own, or
        its own and those of the migration it is in; sorted
    :ivar across_cells: the migration goes to another cell
    :ivar deleted: it is no more
    :ivar primitive: the object on the wire
    """

    hosts: tuple[str, ...]
    across_cells: bool
    deleted: bool
    primitive: Mapping[str, Any]


def fetch(
    database: session.Database, uuids: Collection[str]
) -> dict[str, Instance | exceptions.MalformedMessage]:
    """The instances that a cell has of those asked for; an error in place of one whose row is broken.

    :raises DatabaseUnavailable: the cell's database cannot be asked
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
            # One row that nobody has foreseen must not hide the others.
            found[uuid] = exceptions.MalformedMessage(what='instance', value=type(exc).__name__)
    return found


@session.retried
def _select(database: session.Database, uuids: Collection[str]) -> list[Mapping[str, Any]]:
    with database.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(query(database, uuids))]


def query(database: session.Database, uuids: Collection[str]) -> sa.Select[Any]:
    """A row for each instance, or for each migration of one that is in a migration."""
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
            # NOTE: which of its migrations is meant stands within the JSON of the
            # context. All of them for the few instances that have one is less
            # than a second query.
            .outerjoin(
                migrations,
                (migrations.c.instance_uuid == instances.c.uuid)
                & (migrations.c.deleted == 0)
                & extra.c.migration_context.is_not(None),
            )
        )
        .where(
            database.among(instances.c.uuid, uuids),
            # The copy in the other cell, of one that moves there.
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
        # An instance without a host is on none, whatever its migration says.
        hosts=tuple(sorted(host for host in hosts if host)) if first['host'] else (),
        across_cells=across_cells,
        deleted=bool(first['deleted']),
        primitive=objects.instance(first),
    )
