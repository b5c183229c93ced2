"""Encoding and decoding of frames; the reader gets them in parts of any size."""

import fixtures
import hypothesis
from hypothesis import strategies

from external_events_router.messaging.amqp import frames
from tests import base


def frame(kind, payload, channel=1):
    return bytes([kind]) + channel.to_bytes(2) + len(payload).to_bytes(4) + payload + b'\xce'


def short(text):
    return bytes([len(text)]) + text.encode()


def method(numbers, rest, channel=1):
    return frame(frames.METHOD, numbers[0].to_bytes(2) + numbers[1].to_bytes(2) + rest, channel)


def delivered(consumer, tag, body, *, piece=10, channel=1):
    rest = short(consumer) + tag.to_bytes(8) + b'\0' + short('exchange') + short('key')
    parts = [method((60, 60), rest, channel)]
    parts.append(frame(frames.HEADER, b'\0\x3c\0\0' + len(body).to_bytes(8) + b'\0\0', channel))
    parts += [frame(frames.BODY, body[at : at + piece], channel) for at in range(0, len(body), piece)]
    return b''.join(parts)


def confirmed(tag, *, multiple=False, numbers=frames.ACK):
    return method(numbers, tag.to_bytes(8) + bytes([multiple]))


#: A message with frames of another channel before and after it.
FIRST = delivered('first', 5, b'one')
HALF = len(FIRST) - len(frame(frames.BODY, b'one'))


class ReaderTest(base.TestCase):
    STREAM = (
        confirmed(7)
        + delivered('queue', 3, b'a body of more than one frame')
        + confirmed(9, multiple=True)
        + delivered('other', 4, b'')
        + confirmed(10, numbers=frames.NACK)
        + method((60, 21), short('queue'))
        + frame(frames.HEARTBEAT, b'', channel=0)
        + method((20, 40), (404).to_bytes(2) + short('NOT_FOUND') + b'\0\x32\0\x14')
        + method((60, 30), short('queue') + b'\1')
        + method((50, 21), b'')
        + FIRST[:HALF]
        + delivered('second', 6, b'on another channel', channel=3)
        + FIRST[HALF:]
    )
    ARRIVALS = (
        frames.Confirmed(7, False, True),
        frames.Delivered('queue', 3, b'a body of more than one frame', 1),
        frames.Confirmed(9, True, True),
        frames.Delivered('other', 4, b'', 1),
        frames.Confirmed(10, False, False),
        frames.Consuming('queue', 1),
        frames.Other((frames.HEARTBEAT, 0, memoryview(b''))),
        frames.Closed(1, 404, 'NOT_FOUND', frames.QUEUE_BIND),
        frames.Cancelled('queue', 1),
        frames.Answered(1, frames.QUEUE_BIND_OK),
        frames.Delivered('second', 6, b'on another channel', 3),
        frames.Delivered('first', 5, b'one', 1),
    )

    def test_at_once(self):
        self.assertEqual(list(self.ARRIVALS), list(frames.Reader().feed(self.STREAM)))

    @hypothesis.given(cuts=strategies.lists(strategies.integers(0, len(STREAM))))
    def test_in_any_pieces(self, cuts):
        reader, arrivals, at = frames.Reader(), [], 0
        for cut in [*sorted(cuts), len(self.STREAM)]:
            arrivals += reader.feed(self.STREAM[at:cut])
            at = cut
        self.assertEqual(list(self.ARRIVALS), arrivals)

    def test_invalid_frames(self):
        self.assertRaises(ConnectionError, list, frames.Reader().feed(b'HTTP/1.1 400 Bad Request\r\n\r\n'))
        self.assertRaises(ConnectionError, list, frames.Reader().feed(confirmed(1)[:-1] + b'\0' + b'rest'))


class PublishTest(base.TestCase):
    def publish(self, body, *, frame_max=131072):
        return frames.publish(1, 'exchange', 'key', body, '17', frame_max=frame_max)

    def as_returned(self, data):
        """The broker returns the same content after another method frame."""
        start = data.index(bytes([frames.HEADER, 0, 1]))
        return (
            method(frames.RETURN, (312).to_bytes(2) + short('NO_ROUTE') + short('') + short(''))
            + data[start:]
        )

    def test_returned_message_has_its_id(self):
        for body in (b'', b'{}', b'x' * 5000):
            (arrival,) = frames.Reader().feed(self.as_returned(self.publish(body, frame_max=4096)))
            self.assertEqual(frames.Returned('17'), arrival)

    def test_no_frame_is_too_long(self):
        data, at = self.publish(b'x' * 10000, frame_max=4096), 0
        while at < len(data):
            length = int.from_bytes(data[at + 3 : at + 7])
            self.assertLessEqual(length + 8, 4096)
            at += length + 8
        self.assertEqual(len(data), at)

    def test_acknowledge(self):
        self.assertEqual(
            [frames.Confirmed(5, True, True)], list(frames.Reader().feed(frames.acknowledge(1, 5)))
        )


class TooLargeTest(base.TestCase):
    def test_a_message_that_is_too_large_is_not_kept(self):
        self.useFixture(fixtures.MonkeyPatch('external_events_router.messaging.amqp.frames.MAX_BODY', 10))
        reader = frames.Reader()
        arrived = []
        for body in (b'x' * 11, b'y' * 10):
            arrived += reader.feed(delivered('queue', 1, body, piece=4))
        self.assertEqual([(b'', 11), (b'y' * 10, 0)], [(each.body, each.too_large) for each in arrived])
