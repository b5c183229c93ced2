"""The modules that the architecture page names exist."""

import importlib.util
import pathlib
import re

import external_events_router
from tests import base

PACKAGE = pathlib.Path(external_events_router.__file__).parent
PAGE = PACKAGE.parent / 'doc/source/contributor/architecture.rst'


def names(text):
    """The names of modules in the table, and the paths of modules anywhere in the page."""
    table = text.split('Location of a behaviour\n', 1)[1].split('Allowed imports\n', 1)[0]
    dotted = [f'external_events_router.{name}' for name in re.findall('``([a-z_.]+)``', table)]
    return dotted, re.findall(r'``([a-z_/]+\.py)``', text)


class ArchitecturePageTest(base.TestCase):
    def test_every_module_exists(self):
        dotted, paths = names(PAGE.read_text(encoding='utf-8'))
        self.assertGreater(len(dotted), 80)
        self.assertGreater(len(paths), 10)
        self.assertEqual([], [name for name in dotted if importlib.util.find_spec(name) is None])
        roots = (PACKAGE, PACKAGE.parent)
        self.assertEqual([], [path for path in paths if not any((root / path).is_file() for root in roots)])
