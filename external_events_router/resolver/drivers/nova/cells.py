"""Cells: their databases and brokers, from the mappings in Nova's API database.

A mapping is read for every batch, so new cells and changed URLs take effect without a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from oslo_config import cfg
import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import tables
from external_events_router.resolver.drivers.nova import templates

#: Columns that a query has to select for :meth:`Urls.cell`.
COLUMNS: tuple[sa.ColumnElement[Any], ...] = (
    tables.cell_mappings.c.uuid.label('cell_uuid'),
    tables.cell_mappings.c.name.label('cell_name'),
    tables.cell_mappings.c.database_connection,
    tables.cell_mappings.c.transport_url,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """A cell from its mapping, with filled templates.

    :ivar uuid: uuid of the mapping
    :ivar name: for logs and errors; may be empty
    :ivar database: URL of its database
    :ivar transport: URL of its broker
    """

    uuid: str
    name: str
    database: str = dataclasses.field(repr=False)
    transport: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return f'cell {self.name or self.uuid}'

    def host(self, name: str) -> str:
        """Return the name of a host of this cell in the resolver.

        Two hosts with the same name in two cells are two hosts.
        """
        return f'{name}@{self.uuid}'


def host_name(host: str) -> str:
    """Return the name of a host in Nova; the reverse of :meth:`Cell.host`."""
    return host.rpartition('@')[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Urls:
    """The URLs that templates refer to: ``[nova] database_connection`` and ``transport_url``."""

    database: str | None = None
    transport: str | None = None

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Urls:
        """Read the URLs from the configuration."""
        return cls(conf.nova.database_connection, conf.nova.transport_url)

    def cell(self, row: Mapping[str, Any]) -> Cell:
        """Return the cell of a row with :data:`COLUMNS`.

        :raises ConfigurationError: its mapping refers to an option that is not set, or to a URL that cannot
            be parsed
        """
        return Cell(
            uuid=row['cell_uuid'],
            name=row['cell_name'] or '',
            database=templates.fill(
                row['database_connection'] or '', self.database, option='[nova] database_connection'
            ),
            transport=templates.fill(
                row['transport_url'] or '', self.transport, option='[nova] transport_url'
            ),
        )


def unusable(row: Mapping[str, Any], exc: Exception) -> str:
    """Return why a cell cannot be used.

    :param exc: exception of :meth:`Urls.cell`
    """
    # NOTE: the text of an exception of a library may contain part of a URL.
    reason = str(exc) if isinstance(exc, exceptions.RouterError) else type(exc).__name__
    return f'cell {row["cell_name"] or row["cell_uuid"]}: {reason}'
