"""Names that the checks use on the broker. They are part of the permissions of the services."""

from __future__ import annotations

#: Start of the name of each host, and part of each routing key, that a check uses. No real host has it.
HOST = 'external-events-doctor'

#: Milliseconds after which the broker deletes a queue of an interrupted check.
EXPIRES = 60_000
