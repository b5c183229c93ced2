"""Values as text of a statement; tests/integration inserts them."""

from external_events_router.journal import bulk
from tests import base


def escape(value):
    return f'<escaped {value!r}>'


class TestLiteral(base.TestCase):
    def test_values_that_need_no_escapes(self):
        for value, expected in (
            (None, 'NULL'),
            (7, '7'),
            (-7, '-7'),
            ('', "''"),
            ('100 % "of" it', '\'100 % "of" it\''),
            ('Zürich', "'Zürich'"),
        ):
            self.assertEqual(expected, bulk.literal(value, escape))

    def test_all_others_are_escaped_by_the_driver(self):
        for value in ("it's", 'back\\slash', 'a\0b', 'a\nb', '\x1a', 'a\u2028b', True, 1.5, b'bytes'):
            self.assertEqual(escape(value), bulk.literal(value, escape))
