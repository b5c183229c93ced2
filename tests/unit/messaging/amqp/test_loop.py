"""The loop: all members on one thread, which ends with the last of them."""

import contextlib
import select
import socket
import threading
import time

import fixtures

from external_events_router.messaging.amqp import loop
from tests import base

#: Seconds. What is expected to happen takes far less.
LONG = 30.0


class Member:
    """Reads from a socket, and writes while it has data; leaves when the test requests it."""

    def __init__(self, sock, data=b''):
        self.sock = sock
        self.sock.setblocking(False)
        self.unsent = data
        self.got = b''
        self.stays = True
        self.left = threading.Event()
        self.threads = set()
        #: Called on the thread, in its next turn, after that none.
        self.next_turn = None

    def descriptor(self):
        return self.sock.fileno() if self.stays else None

    def wants_to_write(self):
        return bool(self.unsent)

    def on_events(self, events):
        self.threads.add(threading.current_thread())
        # NOTE: at the end, the other side is closed first.
        with contextlib.suppress(OSError):
            if events & select.POLLOUT:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
            if events & select.POLLIN:
                self.got += self.sock.recv(100)

    def on_interval(self, now):
        call, self.next_turn = self.next_turn, None
        if call is not None:
            call()
        if not self.stays:
            self.left.set()
        return self.stays


class LoopTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.loop = loop.Loop(name='test-loop')
        self.members = []
        self.addCleanup(self.end)

    def end(self):
        for member in self.members:
            member.stays = False
        self.loop.wake()
        for member in self.members:
            self.assertTrue(member.left.wait(LONG))
            member.sock.close()

    def member(self, data=b''):
        local, remote = socket.socketpair()
        self.addCleanup(remote.close)
        remote.settimeout(LONG)
        made = Member(local, data)
        self.members.append(made)
        self.loop.add(made)
        return made, remote

    def until(self, condition):
        deadline = time.monotonic() + LONG
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.001)

    def test_a_turn_that_does_not_end(self):
        self.patch(loop, 'LONGEST_ITERATION', 0.2)
        release, entered = threading.Event(), threading.Event()
        self.addCleanup(release.set)
        self.assertFalse(self.loop.hangs())

        def block():
            entered.set()
            release.wait(LONG)

        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.members.append(Member(ours))
        self.loop.add(self.members[-1])
        self.loop.run_soon(block)
        entered.wait(LONG)
        self.until(self.loop.hangs)
        release.set()
        self.until(lambda: not self.loop.hangs())

    def test_all_members_are_served_by_one_thread(self):
        pairs = [self.member(data=b'hello') for _ in range(3)]
        for number, (member, remote) in enumerate(pairs):
            self.assertEqual(b'hello', remote.recv(5))
            remote.send(str(number).encode())
            self.until(lambda member=member: member.got)
        self.assertEqual([b'0', b'1', b'2'], [member.got for member, _ in pairs])
        self.assertEqual(1, len(set.union(*(member.threads for member, _ in pairs))))

    def test_a_full_socket_delays_no_other_member(self):
        slow, _ = self.member(data=b'x' * 10_000_000)
        quick, remote = self.member()
        remote.send(b'quick')
        self.until(lambda: quick.got == b'quick')
        self.assertTrue(slow.unsent)

    def test_what_is_to_run_soon_runs_in_its_order_on_the_thread(self):
        self.member()
        ran, done = [], threading.Event()
        for number in range(100):
            self.loop.run_soon(lambda number=number: ran.append((number, threading.current_thread().name)))
        self.loop.run_soon(done.set)
        self.assertTrue(done.wait(LONG))
        self.assertEqual([(number, 'test-loop') for number in range(100)], ran)

    def test_work_that_a_callback_leaves_needs_one_turn(self):
        """The turn after the callback does it, and no further turn is requested."""
        member, _remote = self.member()
        requested, done = [], threading.Event()

        def turn():
            requested.append(self.loop._woken)
            done.set()

        def leave_work():
            member.next_turn = turn
            self.loop.wake()

        self.loop.run_soon(leave_work)
        self.assertTrue(done.wait(LONG))
        self.assertEqual([False], requested)

    def test_what_is_left_during_a_turn_is_done(self):
        """By another thread, or for another member: the loop does not sleep before."""
        self.useFixture(fixtures.MonkeyPatch(f'{loop.__name__}.INTERVAL', 10 * LONG))
        member, _remote = self.member()
        done, added = threading.Event(), threading.Event()

        def turn():
            thread = threading.Thread(target=self.loop.run_soon, args=(add,))
            thread.start()
            thread.join(LONG)

        def add():
            other, _remote = self.member()
            other.next_turn = added.set
            done.set()

        member.next_turn = turn
        self.loop.wake()
        self.assertTrue(done.wait(LONG))
        self.assertTrue(added.wait(LONG))

    def test_what_raises_does_not_end_the_thread(self):
        member, remote = self.member()
        self.loop.run_soon(lambda: 1 / 0)
        remote.send(b'more')
        self.until(lambda: member.got == b'more')
        self.assertIn('ZeroDivisionError', self.logs.output)

    def test_the_thread_ends_with_the_last_member_and_starts_again(self):
        self.member()
        self.end()
        self.until(lambda: not any(thread.name == 'test-loop' for thread in threading.enumerate()))
        ran = []
        self.loop.run_soon(lambda: ran.append(threading.current_thread().name))
        self.assertEqual([threading.current_thread().name], ran)
        del self.members[:]
        member, remote = self.member()
        remote.send(b'again')
        self.until(lambda: member.got == b'again')
