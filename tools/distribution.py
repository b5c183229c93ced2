"""Build the distributions and try them as a user would: ``python -m tools.distribution [FOLDER]``.

The folder (default ``dist``) then contains the sdist, the wheel, ``sbom.cdx.json`` (CycloneDX: the
libraries of an installation) and ``licences.md``. The steps:

1. Generate the samples of configuration and policy, build sdist and wheel, and check their metadata.
2. Install the wheel with the libraries of ``requirements-hashed.txt`` in an empty environment. Every
   data file of ``setup.cfg`` must exist, and every command must print its help.
3. Build a wheel from the sdist alone: it must contain the same files.
4. Run the demo of ``external-events-all-in-one`` in that environment.
5. Write the SBOM, and check that the licence of each library is in ``LICENCES``.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any
import zipfile

ROOT = pathlib.Path(__file__).parents[1]

#: Seconds that one command may take; pip downloads about 100 files.
TIMEOUT = 600

#: Licences that allow a combination with a work under the Apache License 2.0. The names are those of
#: SPDX or of the classifiers on PyPI. A new one needs a look at its text before it is added here.
LICENCES = frozenset(
    {
        '0BSD',
        'Apache Software License',
        'Apache License 2.0',
        'Apache-2.0',
        'BSD License',
        'BSD-2-Clause',
        'BSD-3-Clause',
        'GNU Lesser General Public License v3 (LGPLv3)',  # psycopg: a library that is not changed
        'ISC',
        'ISC License (ISCL)',
        'LicenseRef-Repoze-BSD-derived',  # repoze.lru: BSD with a clause on its own trademarks
        'LGPL-3.0-only',
        'MIT',
        'MIT License',
        'MPL-2.0',
        'Mozilla Public License 2.0 (MPL 2.0)',
        'PSF-2.0',
        'Python Software Foundation License',
        'Unlicense',
        'The Unlicense (Unlicense)',
        'Zope Public License',
        'ZPL-2.1',
    }
)


class DistributionError(Exception):
    """A distribution does not contain or do what it must; the text names the fact."""


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m tools.distribution', description=__doc__.splitlines()[0])
    parser.add_argument('folder', nargs='?', default='dist', type=pathlib.Path)
    folder = parser.parse_args().folder.resolve()
    try:
        wheel, sdist = build(folder)
        with tempfile.TemporaryDirectory() as scratch:
            python = install(wheel, pathlib.Path(scratch) / 'venv')
            check_data_files(python)
            check_commands(python)
            compare(python, wheel, sdist, pathlib.Path(scratch) / 'rebuilt')
            run_demo(python, pathlib.Path(scratch))
            write_sbom(python, folder / 'sbom.cdx.json')
            check_licences(python, folder / 'licences.md')
    except DistributionError as error:
        print(f'python -m tools.distribution: {error}', file=sys.stderr)
        return 1
    print('\n'.join(sorted(str(file.relative_to(folder.parent)) for file in folder.iterdir())))
    return 0


def build(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Build from the source tree.

    :returns: (wheel, sdist)
    """
    config = 'etc/external-events-router'
    run('oslo-config-generator', '--config-file', f'{config}/config-generator.conf')
    run('oslopolicy-sample-generator', '--config-file', f'{config}/policy-generator.conf')
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, '-m', 'build', '--outdir', folder)
    (wheel,), (sdist,) = folder.glob('*.whl'), folder.glob('*.tar.gz')
    run('twine', 'check', '--strict', wheel, sdist)
    return wheel, sdist


def install(wheel: pathlib.Path, venv: pathlib.Path) -> pathlib.Path:
    """Install the wheel with hashed libraries.

    :returns: the interpreter of the new environment
    """
    run(sys.executable, '-m', 'venv', venv)
    python = venv / 'bin/python'
    run(python, '-m', 'pip', 'install', '-q', '--require-hashes', '-r', ROOT / 'requirements-hashed.txt')
    run(python, '-m', 'pip', 'install', '-q', '--no-deps', wheel)
    run(python, '-m', 'pip', 'check')
    return python


def check_data_files(python: pathlib.Path) -> None:
    """Find each data file of ``setup.cfg`` below the prefix of the environment."""
    for folder, patterns in _setup()['options.data_files'].items():
        for pattern in patterns.split():
            sources = list(ROOT.glob(pattern))
            if not sources:
                raise DistributionError(f'{pattern} of options.data_files matches no file')
            for source in sources:
                installed = python.parents[1] / folder / source.name
                if not installed.is_file() or installed.read_bytes() != source.read_bytes():
                    raise DistributionError(f'{installed} is missing or differs from {source}')


def check_commands(python: pathlib.Path) -> None:
    """Call each command with ``--help``."""
    for line in _setup()['options.entry_points']['console_scripts'].splitlines():
        if line.strip():
            name = line.split('=')[0].strip()
            if 'usage' not in run(python.parent / name, '--help').lower():
                raise DistributionError(f'{name} --help prints no usage')


def compare(python: pathlib.Path, wheel: pathlib.Path, sdist: pathlib.Path, folder: pathlib.Path) -> None:
    """Build a wheel from the sdist and compare the names of the files."""
    run(python, '-m', 'pip', 'wheel', '-q', '--no-deps', '--wheel-dir', folder, sdist)
    (rebuilt,) = folder.glob('*.whl')
    if different := set(_names(wheel)) ^ set(_names(rebuilt)):
        raise DistributionError(f'the wheel of the sdist differs: {", ".join(sorted(different))}')


def run_demo(python: pathlib.Path, cwd: pathlib.Path) -> None:
    """Run the demo outside the source tree; it ends by itself."""
    run(python.parent / 'external-events-all-in-one', '--demo', '--exit', cwd=cwd)


def write_sbom(python: pathlib.Path, file: pathlib.Path) -> None:
    """List the libraries of the environment, without pip."""
    _remove_pip(python)
    run('cyclonedx-py', 'environment', '--output-reproducible', '--output-file', file, python)
    components = json.loads(file.read_text(encoding='utf-8'))['components']
    if 'oslo.messaging' not in {component['name'] for component in components}:
        raise DistributionError('the SBOM does not contain oslo.messaging')


def check_licences(python: pathlib.Path, file: pathlib.Path) -> None:
    """Write the licences of the libraries; refuse a licence that was not reviewed."""
    options = ('--python', python, '--from=mixed')
    file.write_text(run('pip-licenses', *options, '--format=markdown', '--with-urls'), encoding='utf-8')
    rows: list[dict[str, Any]] = json.loads(run('pip-licenses', *options, '--format=json'))
    unknown = [f'{row["Name"]}: {row["License"]}' for row in rows if not allowed(row['License'])]
    if unknown:
        raise DistributionError(f'licences that are not in LICENCES: {"; ".join(unknown)}')


def allowed(licence: str) -> bool:
    """Whether each licence of an expression is known; ``A OR B`` needs one of them."""
    parts = licence.replace(' AND ', ';').split(';')
    return all(_known(part) for part in parts)


def _known(alternatives: str) -> bool:
    return any({name.strip(), name.strip(' ()')} & LICENCES for name in alternatives.split(' OR '))


def run(*command: Any, cwd: pathlib.Path = ROOT) -> str:
    """Run a command of this environment with a limit.

    :returns: its standard output
    :raises DistributionError: it failed or did not end in time; the text has its last lines
    """
    environment = {**os.environ, 'PATH': f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}'}
    environment.pop('PYTHONPATH', None)
    words = [str(word) for word in command]
    print('+', *words, flush=True)
    try:
        done = subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DistributionError(f'{words[0]}: {error}') from None
    if done.returncode:
        last = '\n'.join((done.stdout + done.stderr).splitlines()[-30:])
        raise DistributionError(f'{" ".join(words)} ended with {done.returncode}:\n{last}')
    return done.stdout


def _names(wheel: pathlib.Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def _remove_pip(python: pathlib.Path) -> None:
    run(python, '-m', 'pip', 'uninstall', '-q', '-y', 'pip', 'setuptools')


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    return parser


if __name__ == '__main__':
    sys.exit(main())
