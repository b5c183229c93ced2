"""Puts rows of the journal into its tables, without a writer."""

import dataclasses
import json
import time

import sqlalchemy as sa

from external_events_router.db import models
from external_events_router.journal import records

_HANDLING = {'waiter': None, 'wait_ms': None, 'handler': None, 'handler_ms': None}


def add(database, *rows):
    """Insert rows of ``journal.records``; the request of an event, too, once."""
    requests = {
        (row.request.received_at, row.request.worker, row.request.seq): row.request
        for row in rows
        if isinstance(row, records.EventRow) and row.request
    }
    with database.writing() as connection:
        for row in (*requests.values(), *rows):
            table, values = _stored(row)
            connection.execute(sa.insert(table).values(values))


def add_worker(database, *, started=86400.0, age=0.2, **fields):
    """A worker that runs and has written its records until just now.

    :param started: seconds ago
    :param age: seconds since it wrote its records
    """
    now = int(time.time() * records.SECOND)
    values = {
        'name': 'controller:1',
        'service': 'external-events-resolver',
        'host': 'controller',
        'pid': 1,
        'record': 'all',
        'started_at': now - int(started * records.SECOND),
        'last_seen_at': now,
        'written_until': now - int(age * records.SECOND),
        'stopped_at': None,
        'killed': 0,
        'written_seq': 0,
        'written': 0,
        'dropped': 0,
        **fields,
    }
    with database.writing() as connection:
        connection.execute(sa.insert(models.JournalWorker).values(values))


def _stored(row):
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    values['hour'] = values.get('received_at', values.get('at')) // records.HOUR
    if isinstance(row, records.RequestRow):
        return models.JournalRequest, values
    if isinstance(row, records.RefusalRow):
        return models.JournalRefusal, {
            **values,
            'reason': str(row.reason),
            'servers': json.dumps(row.servers),
            'names': json.dumps(row.names),
        }
    handling = values.pop('handling')
    values |= dataclasses.asdict(handling) if handling else _HANDLING
    if isinstance(row, records.StepRow):
        return models.JournalStep, {**values, 'kind': str(row.kind)}
    del values['request']
    return models.JournalEvent, {
        **values,
        'reason': str(row.reason),
        'host': row.hosts[0] if row.hosts else None,
        'hosts': json.dumps(row.hosts) if len(row.hosts) > 1 else None,
    }
