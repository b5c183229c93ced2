"""RabbitMQ 4 of Debian 13: a node of the tests' own, whatever Debian the tests run on.

The root is made once, below ``$XDG_CACHE_HOME`` or ``~/.cache`` (or in ``EER_TEST_DEBIAN13_ROOT``,
if it is set). debootstrap selects, verifies and downloads the packages; they are unpacked and not
configured, because a node needs their files alone. That takes less than a minute. It needs
Debian's package archive and root; without them the tests are skipped with the reason.

A process of the root runs in a mount namespace of its own, so that nothing stays mounted.
"""

from __future__ import annotations

import fcntl
import functools
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

from tests.faults import broker
from tests.integration import services

SUITE = 'trixie'
MIRROR = os.environ.get('EER_TEST_DEBIAN_MIRROR', 'http://deb.debian.org/debian')
KEYRING = pathlib.Path('/usr/share/keyrings/debian-archive-keyring.gpg')

#: Seconds for one step of making the root.
STEP_TIMEOUT = 600

#: Files in ``etc`` that the configuration of the packages would write.
FILES = {
    'hosts': '127.0.0.1 localhost\n',
    'passwd': 'root:x:0:0:root:/root:/bin/sh\n',
    'group': 'root:x:0:\n',
}

#: Written last: a root without it is incomplete and is made again.
COMPLETE = 'external-events-router-complete'


class Broker(broker.Broker):
    """A running node of RabbitMQ 4.

    :param lines: further lines of its ``rabbitmq.conf``
    """

    NAME = 'debian13@localhost'

    def __init__(self, *lines):
        self._lines = lines

    def _setUp(self):
        self._root = root()
        super()._setUp()

    def configuration(self):
        return super().configuration() + ''.join(f'{line}\n' for line in self._lines)

    def command(self, name):
        # NOTE: exec, so that the pid of the process is the node's.
        script = (
            f'mount -t proc proc {self._quoted("proc")} && mount --rbind /dev {self._quoted("dev")} && '
            f'mkdir -p {self._quoted(self.folder)} && '
            f'mount --bind {shlex.quote(str(self.folder))} {self._quoted(self.folder)} && '
            f'exec chroot {shlex.quote(str(self._root))} "$0" "$@"'
        )
        path = name if name == 'epmd' else f'/usr/lib/rabbitmq/bin/{name}'
        return ['unshare', '--mount', 'sh', '-c', script, path]

    def _quoted(self, path):
        return shlex.quote(str(self._root / str(path).lstrip('/')))

    def _environment(self):
        # NOTE: the language of the host is not in the root.
        return {**super()._environment(), 'LC_ALL': 'C.UTF-8'}


@functools.cache
def root():
    """The folder of the root; it is made if it is missing."""
    if os.geteuid() != 0:
        services.missing('RabbitMQ 4', 'a root of Debian 13 is made and entered by root')
    at = pathlib.Path(os.environ.get('EER_TEST_DEBIAN13_ROOT') or services.CACHE / 'debian13')
    at.parent.mkdir(parents=True, exist_ok=True)
    with open(at.parent / f'{at.name}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (at / COMPLETE).exists():
            _make(at)
    return at


def _make(at):
    shutil.rmtree(at, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        command, environment = _debootstrap(pathlib.Path(folder))
        options = ['--foreign', '--variant=minbase', '--include=rabbitmq-server', f'--keyring={KEYRING}']
        _run([*command, *options, SUITE, at, MIRROR], environment=environment)
    packages = sorted(at.glob('var/cache/apt/archives/*.deb'))
    for package in packages:
        # NOTE: debootstrap has unpacked a part of them already.
        _run(
            [
                'sh',
                '-c',
                'dpkg-deb --fsys-tarfile "$0" | tar -C "$1" -xk --keep-directory-symlink',
                package,
                at,
            ]
        )
        package.unlink()
    _run(['chroot', at, '/sbin/ldconfig'])
    for name, text in FILES.items():
        (at / 'etc' / name).write_text(text)
    (at / COMPLETE).touch()


def _debootstrap(folder):
    """The command, and the environment in which it finds its own files."""
    installed = shutil.which('debootstrap')
    if installed:
        return [installed], dict(os.environ)
    # NOTE: it is a script that need not be installed.
    _run(['apt-get', 'download', 'debootstrap'], folder=folder)
    (package,) = folder.glob('debootstrap_*.deb')
    _run(['dpkg-deb', '-x', package, folder])
    files = folder / 'usr' / 'share' / 'debootstrap'
    return ['sh', folder / 'usr' / 'sbin' / 'debootstrap'], {**os.environ, 'DEBOOTSTRAP_DIR': str(files)}


def _run(command, *, folder=None, environment=None):
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=STEP_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        services.missing('RabbitMQ 4', f'the root of Debian 13 cannot be made: {exc}')
    # NOTE: tar reports files that exist already.
    if done.returncode and command[0] != 'sh':
        services.missing('RabbitMQ 4', f'{command[0]}: {done.stderr[-500:] or done.stdout[-500:]}')
