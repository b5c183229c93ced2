"""Nova's objects in messages, compared with recorded messages of Nova 34."""

import datetime
import ipaddress
import json
import pathlib

from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import objects
from external_events_router.resolver.drivers.nova import tables
from tests import base

WIRE = pathlib.Path(__file__).with_name('wire')
UUID = '5b0d8c1e-6d0b-4f0e-9a0a-3c5a3f2f6f41'


def recorded(name):
    """The recorded messages, as oslo.messaging sent them."""
    return [message['oslo.message'] for message in json.loads((WIRE / f'{name}.json').read_text())]


def row_of(primitive):
    """The row from which Nova read a recorded instance."""
    data = dict(primitive['nova_object.data'])
    cache = data.pop('info_cache')['nova_object.data']
    context = data.pop('migration_context')
    row = {name: _column(name, value) for name, value in data.items()}
    row['deleted'] = 0
    row['auto_disk_config'] = None
    row |= {
        f'cache_{name}': _column(name, cache[name]) for name in ('created_at', 'updated_at', 'deleted_at')
    }
    return row | {
        'cache_id': 1,
        'cache_deleted': 0,
        'network_info': cache['network_info'],
        'migration_context': None if context is None else json.dumps(context),
    }


def _column(name, value):
    if name.endswith('_at') and value is not None:
        return datetime.datetime.strptime(value, '%Y-%m-%dT%H:%M:%SZ')
    return value


def unordered(value):
    """The same object with lists of changes as sets, because their order is random in Nova."""
    if isinstance(value, dict):
        return {
            key: sorted(inner) if key == 'nova_object.changes' else unordered(inner)
            for key, inner in value.items()
        }
    return [unordered(inner) for inner in value] if isinstance(value, list) else value


class RecordedTest(base.TestCase):
    def test_instances_are_as_recorded(self):
        seen = 0
        for name in ('one', 'migrating', 'tagged-failed', 'two-instances-one-host'):
            for message in recorded(name):
                for primitive in message['args']['instances']:
                    mine = objects.instance(row_of(primitive))
                    self.assertEqual(unordered(primitive), unordered(mine), name)
                    seen += 1
        self.assertEqual(6, seen)

    def test_events_are_as_recorded(self):
        for name in ('one', 'migrating', 'tagged-failed', 'two-instances-one-host'):
            for message in recorded(name):
                for primitive in message['args']['events']:
                    data = primitive['nova_object.data']
                    event = events.Event(data['name'], data['instance_uuid'], data['tag'], data['status'])
                    self.assertEqual(unordered(primitive), unordered(objects.external_event(event)))


class InstanceTest(base.TestCase):
    def row(self, **values):
        columns = {column.name: None for column in tables.instances.columns}
        cache = dict.fromkeys(('cache_created_at', 'cache_updated_at', 'cache_deleted_at', 'cache_deleted'))
        return {
            **columns,
            **cache,
            'uuid': UUID,
            'deleted': 0,
            'cache_id': 1,
            'network_info': '[]',
            'migration_context': None,
            **values,
        }

    def test_unset_flags_are_omitted(self):
        data = objects.instance(self.row(locked=1))['nova_object.data']
        self.assertIs(True, data['locked'])
        for flag in ('auto_disk_config', 'shutdown_terminate', 'disable_terminate', 'hidden', 'cleaned'):
            self.assertIs(False, data[flag], flag)

    def test_missing_info_cache(self):
        self.assertIsNone(objects.instance(self.row(cache_id=None))['nova_object.data']['info_cache'])

    def test_stored_migration_context_without_changes(self):
        context = {'nova_object.name': 'MigrationContext', 'nova_object.data': {'migration_id': 7}}
        row = self.row(migration_context=json.dumps(context))
        self.assertNotIn('nova_object.changes', objects.instance(row))
        self.assertEqual(7, objects.migration_id(row))

    def test_invalid_json(self):
        for column, text in (
            ('network_info', '{'),
            ('network_info', '{}'),
            ('network_info', '["x"]'),
            ('migration_context', 'x'),
            ('migration_context', '[]'),
            ('migration_context', '{"nova_object.name": "MigrationContext"}'),
            ('migration_context', '{"nova_object.name": "Flavor", "nova_object.data": {}}'),
        ):
            error = self.assertRaises(
                exceptions.MalformedMessage, objects.instance, self.row(**{column: text})
            )
            self.assertIn(column, str(error))

    def test_address_from_postgresql(self):
        row = self.row(access_ip_v4=ipaddress.ip_address('192.0.2.1'))
        self.assertEqual('192.0.2.1', objects.instance(row)['nova_object.data']['access_ip_v4'])
