"""The committed diagrams are drawn from the committed sources."""

from __future__ import annotations

import hashlib
import pathlib
import re

from tests import base

DOC = pathlib.Path(__file__).parents[2] / 'doc'


class DiagramsTest(base.TestCase):
    def test_each_diagram_is_drawn_from_its_source(self):
        sources = sorted((DOC / 'diagrams').glob('*.dot'))
        self.assertTrue(sources)
        for source in sources:
            drawn = (DOC / 'source' / '_static' / source.name).with_suffix('.svg').read_text()
            found = re.match(r'<!-- source: doc/diagrams/(\S+) sha256: (\w+) -->\n', drawn)
            self.assertIsNotNone(found, f'{source.name}: no checksum; run doc/diagrams/draw')
            self.assertEqual(
                (source.name, hashlib.sha256(source.read_bytes()).hexdigest()),
                found.groups(),
                'the source has changed; run doc/diagrams/draw',
            )
