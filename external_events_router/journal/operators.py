"""Records the actions of operators, from the commands."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import getpass

from oslo_config import cfg
from oslo_log import log

from external_events_router import exceptions
from external_events_router.journal import entries
from external_events_router.journal import recorder
from external_events_router.journal import store

LOG = log.getLogger(__name__)


def recording(conf: cfg.ConfigOpts, *, actor: str | None = None) -> Callable[[Sequence[entries.Step]], None]:
    """Return a function that records steps in the journal of the configuration.

    If the journal cannot be written, it writes a warning: the command has succeeded nevertheless.

    :param actor: the operator; None: the user of the operating system
    """
    if conf.journal.record == 'none':
        return lambda steps: None

    def record(steps: Sequence[entries.Step]) -> None:
        if not steps:
            return
        try:
            with contextlib.closing(store.Store(recorder.open_database(conf))) as journal:
                journal.synchronize()
                journal.append(steps, actor=actor or operator(conf))
        except exceptions.RouterError as exc:
            LOG.warning('The journal does not contain this command: %s', exc)

    return record


def operator(conf: cfg.ConfigOpts) -> str:
    """Return ``<user>@<host>``, the operator that runs a command."""
    return f'{user()}@{conf.host}'


def user() -> str:
    """Return the name of the user of the operating system."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return 'unknown'
