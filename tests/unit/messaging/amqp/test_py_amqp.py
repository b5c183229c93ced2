"""The internals of py-amqp that this package uses: these tests fail if they change."""

import pathlib
import socket
import struct

import amqp
from amqp import exceptions as amqp_exceptions

import external_events_router
from external_events_router.messaging.amqp import frames
from external_events_router.messaging.amqp import py_amqp
from tests import base

#: Names of py-amqp that only ``py_amqp`` may use.
INTERNALS = (
    'frame_writer',
    'on_inbound_frame',
    'bytes_sent',
    'bytes_recv',
    'transport.sock',
    '.send_method(',
)


class Transport:
    """Replaces the transport of py-amqp: a socket without a broker."""

    connected = True

    def __init__(self, *args, **kwargs):
        self.sock, self.remote = socket.socketpair()

    def connect(self):
        pass

    def write(self, data):
        raise AssertionError('py-amqp has written to its transport')

    def close(self):
        self.sock.close()
        self.remote.close()


class PyAmqpTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.connection = amqp.Connection()
        self.connection.Transport = Transport
        # The broker has answered the login.
        self.connection._handshake_complete = True
        self.connection.connect()
        self.addCleanup(self.connection.transport.close)
        self.written = []

    def _frames(self):
        return list(frames.Reader().feed(b''.join(self.written)))

    def test_socket(self):
        self.assertIs(self.connection.transport.sock, py_amqp.socket_of(self.connection))

    def test_own_frames_are_written_with_the_function(self):
        py_amqp.write_with(self.connection, self.written.append)
        self.connection.send_heartbeat()
        self.assertEqual({bytes}, {type(data) for data in self.written})
        (arrival,) = self._frames()
        self.assertEqual((frames.HEARTBEAT, 0), arrival.frame[:2])

    def test_close_is_sent_without_waiting(self):
        sock = self.connection.transport.sock
        py_amqp.send_close(self.connection, sock)
        (arrival,) = frames.Reader().feed(self.connection.transport.remote.recv(1000))
        kind, channel, payload = arrival.frame
        self.assertEqual((frames.METHOD, 0), (kind, channel))
        self.assertEqual((10, 50, 200), struct.unpack_from('>HHH', payload))

    def test_end_of_the_connection_is_handled(self):
        py_amqp.write_with(self.connection, self.written.append)
        frame = frames.method(0, (10, 50), 'BsBB', (320, 'bye', 0, 0))
        # NOTE: without the head of the frame and its end.
        self.assertRaises(
            amqp_exceptions.ConnectionForced,
            py_amqp.handle_frame,
            self.connection,
            frames.METHOD,
            0,
            frame[7:-1],
        )
        (arrival,) = self._frames()
        self.assertEqual((10, 51), struct.unpack_from('>HH', arrival.frame[2]))

    def test_channels(self):
        self.assertTrue(py_amqp.knows_channel(self.connection, 0))
        self.assertFalse(py_amqp.knows_channel(self.connection, 7))

    def test_heartbeats_depend_on_the_counts(self):
        """A heartbeat is sent only if nothing was sent, and the broker is lost if nothing was received."""
        py_amqp.write_with(self.connection, self.written.append)
        # NOTE: no real time passes in these intervals; the instants are moved back instead.
        self.connection.heartbeat = 60
        self.connection.heartbeat_tick(rate=2)
        for number in range(3):
            before = len(self.written)
            py_amqp.count_received(self.connection)
            py_amqp.count_sent(self.connection)
            self.connection.last_heartbeat_sent -= 1000
            self.connection.last_heartbeat_received -= 1000
            self.connection.heartbeat_tick(rate=2)
            self.assertEqual(before, len(self.written), number)
        py_amqp.count_received(self.connection)
        before = len(self.written)
        self.connection.last_heartbeat_sent -= 1000
        self.connection.heartbeat_tick(rate=2)
        self.assertEqual(before + 1, len(self.written))
        self.connection.last_heartbeat_received -= 1000
        self.assertRaises(amqp_exceptions.ConnectionForced, self.connection.heartbeat_tick, rate=2)

    def test_no_other_module_uses_the_internals(self):
        root = pathlib.Path(external_events_router.__file__).parent
        for path in root.rglob('*.py'):
            # NOTE: the driver of oslo.messaging has a wrapper of its own.
            if path.name not in {'py_amqp.py', 'rabbit_driver.py'}:
                text = path.read_text()
                self.assertEqual([], [name for name in INTERNALS if name in text], path)
