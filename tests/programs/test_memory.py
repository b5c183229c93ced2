"""Memory that a process saves: one heap for all threads, and no unused libraries."""

import subprocess
import sys
import textwrap

from tests import base

#: Prints how many heaps the C library has after twenty threads have used it.
COUNT_HEAPS = """
    import ctypes, sys, threading
    from external_events_router.process import memory
    memory.share_heaps()
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
    all_there = threading.Barrier(20)
    def use():
        all_there.wait(30)
        libc.malloc(100_000)
        all_there.wait(30)
    threads = [threading.Thread(target=use) for _ in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b'w'))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(open(sys.argv[1]).read().count('<heap nr='))
"""

#: Prints how many objects are exempt from garbage collection after a start.
COUNT_FROZEN = """
    import gc
    from external_events_router.process import memory
    memory.freeze()
    print(gc.get_freeze_count())
"""

#: Prints which of the given modules an API process has loaded before the first request.
LOADED = """
    import sys
    import external_events_router.cmd.api
    print(*(name for name in sys.argv[1:] if sys.modules.get(name)))
"""


class MemoryTest(base.TestCase):
    def run_python(self, text, *arguments):
        command = [sys.executable, '-W', 'ignore', '-c', textwrap.dedent(text), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    def test_threads_share_heaps(self):
        folder = self.create_tempfiles([('heaps', '')])
        (count,) = self.run_python(COUNT_HEAPS, folder[0])
        self.assertLessEqual(int(count), 2)

    def test_objects_from_the_start_are_exempt_from_garbage_collection(self):
        (count,) = self.run_python(COUNT_FROZEN)
        self.assertGreater(int(count), 1000)

    def test_api_process_loads_no_unused_library(self):
        self.assertEqual(['sqlalchemy'], self.run_python(LOADED, 'eventlet', 'alembic', 'sqlalchemy'))
