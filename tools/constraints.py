"""Generate the files of exact versions: ``python -m tools.constraints [--check]``.

``constraints.txt`` has one version for each library of the package and of all its extras. The
README, tox and ``.ci/run`` install these versions. ``requirements-hashed.txt`` has the libraries
of the package alone, each with the hashes of its files, for an installation that accepts no other
file: ``pip install --require-hashes -r requirements-hashed.txt``.

uv (extra ``dev``) resolves the versions for each platform and for each Python that the package
supports. With ``--check`` nothing is written and no registry is asked: the exit status is 1 if a
requirement of ``setup.cfg`` has no version in the files, or has a version that it does not allow.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import configparser
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
CONSTRAINTS = ROOT / 'constraints.txt'
HASHED = ROOT / 'requirements-hashed.txt'

#: Seconds that the registry may take to resolve one file.
TIMEOUT = 300

_PINNED = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]*==')


class Problem(NamedTuple):
    """A requirement of the package that a generated file does not satisfy."""

    file: str
    requirement: str
    fact: str

    def __str__(self) -> str:
        return f'{self.file}: {self.requirement}: {self.fact}; run python -m tools.constraints'


def generate() -> None:
    """Write both files with the newest versions that ``setup.cfg`` allows.

    :raises subprocess.CalledProcessError: no versions fit together, or the registry did not answer
    """
    _compile(CONSTRAINTS, '--all-extras', '--upgrade')
    # The library versions of both files are the same: the first file constrains the second.
    _compile(HASHED, '--generate-hashes', '--constraints', CONSTRAINTS.name, '--upgrade')


def _compile(file: pathlib.Path, *options: str) -> None:
    subprocess.run(
        [
            *('uv', 'pip', 'compile', 'setup.cfg', '--universal', '--python-version', '3.11', '--quiet'),
            *('--no-annotate', '--custom-compile-command', 'python -m tools.constraints'),
            *('--output-file', file.name, *options),
        ],
        cwd=ROOT,
        check=True,
        timeout=TIMEOUT,
        stdout=subprocess.DEVNULL,
    )


def problems() -> list[Problem]:
    """Compare ``setup.cfg`` with the files in the tree."""
    return [
        *_compare(CONSTRAINTS, [*requirements(), *requirements_of_extras()]),
        *_compare(HASHED, requirements()),
    ]


def requirements() -> list[Requirement]:
    """Libraries that the package needs."""
    return list(_parsed(_setup()['options']['install_requires']))


def requirements_of_extras() -> list[Requirement]:
    """Libraries of all extras: tests, linters, documentation, measurements."""
    return [parsed for lines in _setup()['options.extras_require'].values() for parsed in _parsed(lines)]


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    return parser


def _parsed(lines: str) -> Iterator[Requirement]:
    return (Requirement(line) for line in lines.splitlines() if line.strip())


def _compare(file: pathlib.Path, wanted: list[Requirement]) -> Iterator[Problem]:
    pinned = pinned_versions(file.read_text(encoding='utf-8'))
    for requirement in wanted:
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            yield Problem(file.name, str(requirement), 'no version')
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Problem(file.name, str(requirement), f'version {version} is not allowed')


def pinned_versions(text: str) -> dict[str, str]:
    """Versions in the text of a generated file for this Python: ``{canonical name: version}``."""
    parsed = (Requirement(line.rstrip('\\ ')) for line in text.splitlines() if _PINNED.match(line))
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix('==')
        for pin in parsed
        if pin.marker is None or pin.marker.evaluate()
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m tools.constraints', description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true', help='compare only; 1 if a version is missing')
    if parser.parse_args().check:
        found = problems()
        for problem in found:
            print(problem, file=sys.stderr)
        return 1 if found else 0
    generate()
    return 0


if __name__ == '__main__':
    sys.exit(main())
