import uuid

from external_events_router import ids
from tests import base


class IdsTest(base.TestCase):
    def test_random_ones_are_uuids_and_differ(self):
        made = [ids.random_uuid() for _ in range(1000)]
        self.assertEqual(1000, len(set(made)))
        for each in map(uuid.UUID, made):
            self.assertEqual((4, uuid.RFC_4122), (each.version, each.variant))
        self.assertEqual(made, [str(uuid.UUID(each)) for each in made])

    def test_as_uuid_does_it_makes_one_of_a_digest(self):
        for number in range(32):
            digits = f'{number:x}' * 32 if number < 16 else uuid.uuid4().hex
            made = str(uuid.UUID(bytes=bytes.fromhex(digits[:32]), version=5))
            self.assertEqual(made, ids.as_uuid(digits, version=5))

    def test_hex(self):
        self.assertRegex(ids.random_hex(), '^[0-9a-f]{32}$')
