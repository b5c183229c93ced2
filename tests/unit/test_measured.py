"""Each integration test that measures time is found by its name; otherwise it would run in parallel."""

import ast
import pathlib
import re

from tests import base
from tests.integration import __main__ as integration

FOLDER = pathlib.Path(integration.__file__).parent


class MeasuredTest(base.TestCase):
    def test_each_pattern_matches_a_class(self):
        names = [
            f'{path.stem}.{node.name}.'
            for path in FOLDER.glob('test_*.py')
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef)
        ]
        for pattern in integration.MEASURED:
            self.assertTrue(any(re.match(pattern, name) for name in names), pattern)
