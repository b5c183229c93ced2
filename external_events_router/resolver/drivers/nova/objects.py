"""Nova's versioned objects in messages, as JSON: an instance from its row, and an external event.

All functions are pure. The versions are from 2024.1 to 2026.2; a newer nova-compute accepts older
versions. oslo.versionedobjects defines the format.
"""

from __future__ import annotations

from collections.abc import Mapping
import datetime
import json
from typing import Any

from external_events_router import events
from external_events_router import exceptions
from external_events_router.resolver.drivers.nova import tables

#: Name of an object, to its version.
VERSIONS = {'Instance': '2.8', 'InstanceExternalEvent': '1.5', 'InstanceInfoCache': '1.5'}

#: Boolean columns, which are false if the row has no value.
_FLAGS = frozenset(
    {'locked', 'auto_disk_config', 'shutdown_terminate', 'disable_terminate', 'hidden', 'cleaned'}
)

_COLUMNS = tuple(column.name for column in tables.instances.columns if column.name != 'deleted')


def instance(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an Instance with its network information and migration context.

    :param row: columns of ``instances``; ``cache_id``, ``cache_*`` and ``network_info`` of its info
        cache, ``migration_context`` of its extra row
    :raises MalformedMessage: a JSON column is not valid JSON
    """
    data = {name: _flag(row[name]) if name in _FLAGS else _plain(row[name]) for name in _COLUMNS}
    data['deleted'] = bool(row['deleted'])
    data['info_cache'] = None if row['cache_id'] is None else _info_cache(row)
    data['migration_context'] = context = _migration_context(row['migration_context'])
    # NOTE: a stored object with changes also marks its parent as changed.
    changes = ['migration_context'] if _has_changes(context) else []
    return _primitive('Instance', data, changes)


def external_event(event: events.Event) -> dict[str, Any]:
    """Build an InstanceExternalEvent."""
    data = {
        'instance_uuid': event.server_uuid,
        'name': event.name,
        'status': event.status,
        'tag': event.tag,
    }
    return _primitive('InstanceExternalEvent', data, sorted(data))


def migration_id(row: Mapping[str, Any]) -> int | None:
    """Return the id of the current migration of an instance, from its migration context.

    :param row: as for :func:`instance`
    :raises MalformedMessage: the context is not valid
    """
    context = _migration_context(row['migration_context'])
    return None if context is None else context['nova_object.data'].get('migration_id')


def _primitive(name: str, data: Mapping[str, Any], changes: list[str]) -> dict[str, Any]:
    primitive: dict[str, Any] = {
        'nova_object.name': name,
        'nova_object.namespace': 'nova',
        'nova_object.version': VERSIONS[name],
        'nova_object.data': data,
    }
    if changes:
        primitive['nova_object.changes'] = changes
    return primitive


def _info_cache(row: Mapping[str, Any]) -> dict[str, Any]:
    text = row['network_info']
    if text is not None:
        known = _json(text, 'network_info')
        if not isinstance(known, list) or not all(isinstance(vif, dict) for vif in known):
            raise exceptions.MalformedMessage(what='network_info', value=_short(text))
    data = {
        'instance_uuid': row['uuid'],
        'network_info': text,
        'created_at': _plain(row['cache_created_at']),
        'updated_at': _plain(row['cache_updated_at']),
        'deleted_at': _plain(row['cache_deleted_at']),
        'deleted': bool(row['cache_deleted']),
    }
    return _primitive('InstanceInfoCache', data, [])


def _migration_context(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    # NOTE: it is stored in the same format as in a message.
    stored = _json(text, 'migration_context')
    if not isinstance(stored, dict) or stored.get('nova_object.name') != 'MigrationContext':
        raise exceptions.MalformedMessage(what='migration_context', value=_short(text))
    if not isinstance(stored.get('nova_object.data'), dict):
        raise exceptions.MalformedMessage(what='migration_context', value=_short(text))
    return stored


def _has_changes(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get('nova_object.changes')) or any(map(_has_changes, value.values()))
    return isinstance(value, list) and any(map(_has_changes, value))


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as exc:
        raise exceptions.MalformedMessage(what=what, value=_short(text)) from exc


def _short(text: object) -> str:
    return str(text)[:60]


def _flag(value: Any) -> bool:
    return bool(value)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.strftime('%Y-%m-%dT%H:%M:%SZ')
    if value is None or isinstance(value, (bool, int, str)):
        return value
    # Addresses of PostgreSQL.
    return str(value)
