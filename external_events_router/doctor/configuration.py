"""Checks of the configuration: files, unknown options, certificates."""

from __future__ import annotations

import contextlib
import datetime
import os
import stat

from external_events_router.doctor import base
from external_events_router.process import certificates
from external_events_router.process import config_files
from external_events_router.process import startup


def check_files(site: base.Site) -> base.Result:
    """Check that a configuration file exists, and that only the service can read it."""
    files = config_files.paths(site.conf)
    if not files:
        searched = config_files.searched(startup.PROJECT, f'external-events-{site.service}')
        return base.warn(
            f'no configuration file exists; searched: {", ".join(searched)}',
            'write one of these files; all options have their defaults now',
        )
    open_files = [path for path in files if _is_open(path)]
    if open_files:
        return base.warn(
            f'every user of this machine can read the passwords in {base.few(open_files)}',
            f'chmod 0640 {" ".join(open_files)}; chgrp external-events {" ".join(open_files)}',
        )
    return base.ok(', '.join(files))


def _is_open(path: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(stat.S_IMODE(os.stat(path).st_mode) & stat.S_IROTH)
    return False


def check_options(site: base.Site) -> base.Result:
    """Check that each option in the files exists."""
    found = [
        f'{setting.path}, line {setting.line}: [{setting.group}] {setting.name}{hint}'
        for setting, hint in config_files.unknown(site.conf)
    ]
    if found:
        return base.warn(
            f'unknown options, which have no effect: {"; ".join(found[: base.FEW])}'
            + (f' and {len(found) - base.FEW} others' if len(found) > base.FEW else ''),
            'correct the names, or delete the lines',
        )
    return base.ok('all options in the configuration files are known')


def check_certificates(site: base.Site) -> base.Result:
    """Check that the certificates and keys in the configuration can be read, and when they expire."""
    files = list(certificates.files_of(site.conf))
    if not files:
        return base.unused('the configuration names no certificates')
    now = datetime.datetime.now(datetime.UTC)
    unreadable = [
        f'{file.path} of {file.option}: {reason}' for file in files if (reason := _unreadable(file))
    ]
    if unreadable:
        return base.fail(
            '; '.join(unreadable), f'let the user of external-events-{site.service} read the files'
        )
    problems = [text for file in files for text in certificates.problems(file, now=now)]
    first = min(filter(None, map(certificates.first_expiry, files)), default=None)
    if problems:
        expired = first is not None and first < now
        result = base.fail if expired else base.warn
        return result('; '.join(problems), 'replace the files, then reload the services')
    until = f'; the first one expires on {first:%Y-%m-%d}' if first else ''
    return base.ok(f'{len(files)} files{until}')


def _unreadable(file: certificates.File) -> str | None:
    try:
        with open(file.path, 'rb') as stream:
            stream.read(1)
        if file.kind != certificates.KEY:
            certificates.read(file.path)
    except OSError as exc:
        return str(exc.strerror)
    except (ValueError, IndexError):
        return 'it is not a PEM file with certificates'
    return None


CHECKS = (
    base.Check('config-files', check_files),
    base.Check('config-options', check_options),
    base.Check('certificates', check_certificates),
)
