"""Rows for tests of the journal."""

import json

import sqlalchemy as sa

from external_events_router.db import models
from external_events_router.journal import records

#: A time in the journal: 2026-01-01, at a full hour.
T0 = 1767225600 * records.SECOND

SERVER = '5e7f1d2a-0000-4000-8000-000000000001'
OTHER = '5e7f1d2a-0000-4000-8000-000000000002'
PORT = '9d8c7b6a-0000-4000-8000-000000000001'


def event(at=T0, *, worker=1, seq=1, hosts=('node-1',), **changed):
    """A row of ``journal_events``."""
    return {
        'received_at': at,
        'worker': worker,
        'seq': seq,
        'hour': at // records.HOUR,
        'event_id': f'event-{worker}-{seq}',
        'server_uuid': SERVER,
        'name': 'network-vif-plugged',
        'tag': PORT,
        'status': 'completed',
        'code': 200,
        'reason': 'acknowledged',
        'detail': None,
        'host': hosts[0] if hosts else None,
        'hosts': json.dumps(hosts) if len(hosts) > 1 else None,
        'ack_ms': 12,
        'waiter': None,
        'wait_ms': None,
        'handler': None,
        'handler_ms': None,
        'replayed': 0,
        **changed,
    }


def event_host(at=T0, *, worker=1, seq=1, host='node-2'):
    """A row of ``journal_event_hosts``."""
    return {'received_at': at, 'worker': worker, 'seq': seq, 'hour': at // records.HOUR, 'host': host}


def request(at=T0, *, worker=1, seq=1, events=1, **changed):
    """A row of ``journal_requests``."""
    return {
        'received_at': at,
        'worker': worker,
        'seq': seq,
        'hour': at // records.HOUR,
        'events': events,
        'request_id': f'req-{worker}-{seq}',
        'global_request_id': f'req-global-{worker}-{seq}',
        'user_id': 'neutron',
        'project_id': 'service',
        'duration_ms': 15,
        **changed,
    }


def step(at=T0, *, worker=1, seq=1, **changed):
    """A row of ``journal_steps``."""
    return {
        'at': at,
        'worker': worker,
        'seq': seq,
        'hour': at // records.HOUR,
        'event_id': 'event-1-1',
        'server_uuid': SERVER,
        'kind': 'attempt',
        'host': 'node-1',
        'detail': 'no acknowledgement in time',
        'attempt': 1,
        'actor': 'controller:0',
        'waiter': None,
        'wait_ms': None,
        'handler': None,
        'handler_ms': None,
        **changed,
    }


def refusal(at=T0, *, worker=1, seq=1, **changed):
    """A row of ``journal_refusals``."""
    return {
        'at': at,
        'worker': worker,
        'seq': seq,
        'hour': at // records.HOUR,
        'status': 401,
        'reason': 'not_authenticated',
        'detail': 'The request you have made requires authentication.',
        'user_id': None,
        'user_name': None,
        'project_id': None,
        'address': '192.0.2.7',
        'request_id': f'req-{worker}-{seq}',
        'global_request_id': None,
        'suppressed': 0,
        'servers': None,
        'names': None,
        **changed,
    }


def insert(database, table, rows):
    """Insert rows into a table of the models."""
    with database.writing() as connection:
        connection.execute(sa.insert(table.__table__), rows)


TABLES = {
    'events': models.JournalEvent,
    'event_hosts': models.JournalEventHost,
    'requests': models.JournalRequest,
    'steps': models.JournalStep,
    'refusals': models.JournalRefusal,
}
