"""Nova's databases on a small scale: SQLite files with the tables that the router reads."""

import datetime
import json
import pathlib

import fixtures
import sqlalchemy as sa

from external_events_router.resolver.drivers.nova import tables
from tests.unit.db import databases

CREATED = datetime.datetime(2026, 1, 2, 3, 4, 5)

#: An instance as the scheduler creates it. A test overrides single columns.
INSTANCE = {
    'created_at': CREATED,
    'deleted': 0,
    'hidden': False,
    'vm_state': 'active',
    'project_id': 'a project',
    'user_id': 'a user',
}


class Cloud(fixtures.Fixture):
    """An API database and databases of cells.

    :ivar conf: a configuration that knows the API database
    """

    def _setUp(self):
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.conf = databases.configured(None)
        # NOTE: all configurations of a process share their option groups and
        # the values that were set in them.
        self.conf.reset()
        self.conf([])
        self.addCleanup(self.conf.reset)
        self.conf.set_override('connection', f'sqlite:///{self.folder}/router.sqlite', group='database')
        self.conf.set_override('api_connection', self.url('api'), group='nova')
        self.conf.set_override('backend', 'nova', group='host_map')
        self.api = self._create('api', tables.api)
        self.cells = {}

    def url(self, name):
        return f'sqlite:///{self.folder}/{name}.sqlite'

    def add_cell(self, name, *, uuid=None, url=None, transport='rabbit://{hostname}/' + 'cell'):
        """Add a cell with its own database, and its mapping.

        :returns: its uuid
        """
        self.cells[name] = self._create(name, tables.cell)
        uuid = uuid or f'ce110000-0000-4000-8000-{len(self.cells):012}'
        self.insert(
            self.api,
            tables.cell_mappings,
            id=len(self.cells),
            uuid=uuid,
            name=name,
            database_connection=url or self.url(name),
            transport_url=transport.format(hostname='127.0.0.1'),
        )
        return uuid

    def add_instance(self, uuid, cell, host='one', *, migration=None, network_info='[]', **columns):
        """Add an instance to a cell, and its mapping; without a cell, add only the mapping.

        :param migration: ``source``, ``dest`` and ``across_cells`` of the migration it is in
        """
        number = None if cell is None else list(self.cells).index(cell) + 1
        self.insert(self.api, tables.instance_mappings, instance_uuid=uuid, cell_id=number)
        if cell is None:
            return
        engine = self.cells[cell]
        self.insert(engine, tables.instances, **{**INSTANCE, 'uuid': uuid, 'host': host, **columns})
        if network_info is not None:
            self.insert(
                engine,
                tables.instance_info_caches,
                instance_uuid=uuid,
                network_info=network_info,
                created_at=CREATED,
                deleted=0,
            )
        context = None
        if migration:
            # An older migration, which must be ignored.
            self._add_migration(engine, uuid, source='older', dest='oldest')
            context = migration_context(uuid, self._add_migration(engine, uuid, **migration))
        self.insert(
            engine,
            tables.instance_extra,
            instance_uuid=uuid,
            migration_context=context if context is None else json.dumps(context),
        )

    def add_host(self, host, cell):
        """Add a mapping of a host."""
        number = list(self.cells).index(cell) + 1
        self.insert(self.api, tables.host_mappings, host=host, cell_id=number)

    def change(self, engine, table, **values):
        """Change every row of a table."""
        with engine.begin() as connection:
            connection.execute(sa.update(table).values(**values))

    def insert(self, engine, table, **values):
        with engine.begin() as connection:
            return connection.execute(sa.insert(table).values(**values)).inserted_primary_key[0]

    def _add_migration(self, engine, uuid, *, source, dest, across_cells=False):
        return self.insert(
            engine,
            tables.migrations,
            instance_uuid=uuid,
            source_compute=source,
            dest_compute=dest,
            cross_cell_move=across_cells,
            deleted=0,
        )

    def _create(self, name, metadata):
        engine = sa.create_engine(self.url(name))
        self.addCleanup(engine.dispose)
        metadata.create_all(engine)
        return engine


def migration_context(uuid, number):
    """Return a migration context as Nova stores it."""
    return {
        'nova_object.name': 'MigrationContext',
        'nova_object.namespace': 'nova',
        'nova_object.version': '1.2',
        'nova_object.data': {'instance_uuid': uuid, 'migration_id': number},
        'nova_object.changes': ['instance_uuid', 'migration_id'],
    }
