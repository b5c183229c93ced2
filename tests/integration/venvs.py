"""Virtual environments of programs whose requirements are not those of the service: made once, and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import subprocess
import sys

from tests.integration import services

#: Seconds for the installation from a package index.
INSTALL_TIMEOUT = 600


def make(name, requirements, *, variable):
    """A virtual environment with these packages, which is created if it does not exist.

    It is in the user's cache folder. Without a package index it cannot be made, and
    what needs it is skipped, or fails where services are required.

    :param variable: of the environment, which may say where it is instead
    :returns: its folder
    """
    folder = _folder(name, requirements, variable)
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder / 'complete'
    with open(f'{folder}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            for command in (
                [sys.executable, '-m', 'venv', '--clear', folder],
                [folder / 'bin' / 'pip', 'install', '--quiet', *requirements],
            ):
                _install(f'{name} ({variable})', command)
            done.touch()
    return folder


def _folder(name, requirements, variable):
    if path := os.environ.get(variable):
        return pathlib.Path(path)
    # NOTE: another Python, or another requirement, is another environment.
    mark = hashlib.sha256(repr((sys.version_info[:2], requirements)).encode()).hexdigest()[:12]
    return services.CACHE / f'{name}-{mark}'


def _install(what, command):
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=INSTALL_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        services.missing(what, f'not installed within {INSTALL_TIMEOUT} s')
    except subprocess.CalledProcessError as exc:
        services.missing(what, (exc.stderr or exc.stdout)[-500:])
