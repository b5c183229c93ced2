import multiprocessing
import threading
import uuid

import fixtures

from external_events_router import ids
from tests import base


class IdsTest(base.TestCase):
    def test_random_ids_are_different_uuids(self):
        made = [ids.random_uuid() for _ in range(1000)]
        self.assertEqual(1000, len(set(made)))
        for each in map(uuid.UUID, made):
            self.assertEqual((4, uuid.RFC_4122), (each.version, each.variant))
        self.assertEqual(made, [str(uuid.UUID(each)) for each in made])

    def test_uuid_of_a_digest(self):
        for number in range(32):
            digits = f'{number:x}' * 32 if number < 16 else uuid.uuid4().hex
            made = str(uuid.UUID(bytes=bytes.fromhex(digits[:32]), version=5))
            self.assertEqual(made, ids.as_uuid(digits, version=5))

    def test_hexadecimal_form(self):
        self.assertRegex(ids.random_hex(), '^[0-9a-f]{32}$')

    def test_ids_come_from_the_random_generator_of_the_system(self):
        """An id contains the output of ``os.urandom``, so that it is unpredictable."""
        given = []

        def urandom(size):
            given.append(bytes(range(256)) * (size // 256))
            return given[-1]

        self.useFixture(fixtures.MonkeyPatch('os.urandom', urandom))
        self.useFixture(fixtures.MonkeyPatch('external_events_router.ids._unused', []))
        self.assertIn(ids.random_hex(), given[0].hex())

    def test_child_process_has_its_own_ids(self):
        ids.random_hex()
        context = multiprocessing.get_context('fork')
        results = context.SimpleQueue()
        child = context.Process(target=lambda: results.put([ids.random_hex() for _ in range(300)]))
        child.start()
        theirs = results.get()
        child.join()
        self.assertEqual(set(), set(theirs) & {ids.random_hex() for _ in range(600)})

    def test_threads_have_different_ids(self):
        made = []

        def work():
            made.extend([ids.random_hex() for _ in range(5000)])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(20_000, len(set(made)))
