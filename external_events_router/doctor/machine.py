"""Checks of this machine: the number of files and connections that a process may open."""

from __future__ import annotations

from collections.abc import Iterator
import os
import pathlib
import re
import resource

from oslo_config import cfg

from external_events_router.doctor import base

_PROC = pathlib.Path('/proc')
_OPEN_FILES = re.compile(rb'Max open files +(\S+)')

#: Files of a process without its clients and databases: log, sockets of the broker, modules.
OTHERS = 100

#: Connections that the pool of oslo.db opens if ``[database] max_overflow`` is not set.
_OVERFLOW = 50


def check_file_limit(site: base.Site) -> base.Result:
    """Compare the limit of open files with the connections that the configuration permits."""
    needed = files_needed(site.conf, site.service)
    running = dict(_limits(f'external-events-{site.service}'))
    remedy = f'set LimitNOFILE={needed * 2} in the unit of external-events-{site.service}, and restart it'
    if running:
        pid, limit = min(running.items(), key=lambda item: item[1])
        evidence = f'process {pid} may open {limit} files, and needs up to {needed}'
    else:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limit = 2**63 if limit == resource.RLIM_INFINITY else limit
        evidence = (
            f'external-events-{site.service} does not run here; this command may open {limit} files, and the '
            f'service needs up to {needed}'
        )
    return base.ok(evidence) if limit >= needed else base.warn(evidence, remedy)


def files_needed(conf: cfg.ConfigOpts, service: str) -> int:
    """Return the number of files and connections that a process of a service can open at the same time."""
    pool = (conf.database.max_pool_size or 0) + (conf.database.max_overflow or _OVERFLOW)
    # NOTE: one pool for reading, one for writing, and the connections of the journal.
    of_resolver = 2 * pool + 2
    match service:
        case base.API:
            own = of_resolver if conf.api.resolver == 'local' else 0
            return OTHERS + int(conf.api.max_connections) + own
        case base.RESOLVER:
            return OTHERS + of_resolver
        case _:
            # NOTE: oslo.messaging opens up to three connections for each host; direct AMQP two in all.
            return OTHERS + 3 * len(conf.agent.hosts or [''])


def _limits(command: str) -> Iterator[tuple[int, int]]:
    """Yield the limit of each process that runs a command, by pid."""
    for folder in _PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / 'cmdline').read_bytes().split(b'\0')
            if not any(os.path.basename(word) == command.encode() for word in words[:2]):
                continue
            found = _OPEN_FILES.search((folder / 'limits').read_bytes())
        except OSError:
            # It has ended, or another user runs it.
            continue
        if found:
            yield int(folder.name), 2**63 if found[1] == b'unlimited' else int(found[1])


CHECKS = (base.Check('file-limit', check_file_limit),)
