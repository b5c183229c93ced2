"""The key for the tokens of reports, which all resolvers share: one row in the database.

A program that can read the key can also change the host map in the database. The key is not derived
from ``[database] connection``: resolvers may have different URLs, users and passwords, and each change
of a password would replace the key.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from external_events_router import exceptions
from external_events_router.db import models
from external_events_router.db import session

#: Length of the key in bytes, as long as the hash.
KEY_BYTES = 32

#: Id of the only row.
_ID = 1


class ReportKey:
    """Reads the key. The first resolver that needs the key creates it."""

    def __init__(self, database: session.Database) -> None:
        self._database = database

    @session.retried
    def read(self) -> bytes:
        """Return the key; create it if the table is empty.

        :raises DatabaseUnavailable: the key cannot be read, or is damaged
        """
        query = sa.select(models.ReportKey.key).where(models.ReportKey.id == _ID)
        with self._database.reading() as connection:
            key = connection.scalar(query)
        if key is None:
            row = {'id': _ID, 'key': secrets.token_hex(KEY_BYTES)}
            table = models.Base.metadata.tables[models.ReportKey.__tablename__]
            with self._database.writing() as connection:
                self._database.insert_missing(connection, table, [row])
            with self._database.reading() as connection:
                key = connection.execute(query).scalar_one()
        return _decoded(key)


def _decoded(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b''
    if len(key) != KEY_BYTES:
        raise exceptions.DatabaseUnavailable(
            reason='the row of the table report_keys is damaged; delete it, then a resolver creates a new key'
        )
    return key
