"""The package that pip installs."""

import pathlib
import subprocess
import sys
import zipfile

import fixtures

import external_events_router
from tests import base


class TestPackage(base.TestCase):
    def test_wheel_contains_the_migrations(self):
        room = 'external_events_router/db'
        source = pathlib.Path(external_events_router.__file__).parents[1]
        expected = {f'{room}/alembic.ini', f'{room}/migrations/script.py.mako', f'{room}/migrations/env.py'}
        expected |= {
            str(path.relative_to(source)) for path in (source / room).glob('migrations/versions/[0-9]*.py')
        }
        self.assertLessEqual(expected, self._wheel(source))

    def _wheel(self, source):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        build = (
            'import os, sys; from setuptools import build_meta; os.chdir(sys.argv[1]);'
            'build_meta.build_wheel(sys.argv[2])'
        )
        copy = folder / 'source'
        copy.mkdir()
        for name in ('setup.cfg', 'pyproject.toml', 'README.rst', 'LICENSE', 'etc', 'external_events_router'):
            if (source / name).exists():
                subprocess.run(['cp', '-r', source / name, copy], check=True)
        done = subprocess.run(
            [sys.executable, '-c', build, copy, folder], capture_output=True, check=False, text=True
        )
        self.assertEqual(0, done.returncode, done.stderr)
        (wheel,) = folder.glob('*.whl')
        return set(zipfile.ZipFile(wheel).namelist())
