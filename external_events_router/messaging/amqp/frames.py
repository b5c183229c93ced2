"""Frequent frames of AMQP 0-9-1: publishes, confirms, deliveries.

py-amqp handles the login and all rare frames. This module takes a tenth of its time per message. Numbers and
layouts are from the AMQP 0-9-1 specification. Frames that only RabbitMQ has are described on its page
on publisher confirms.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import struct
from typing import Any

from amqp import serialization

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
_KINDS = (METHOD, HEADER, BODY, HEARTBEAT)

#: Class and method of the frames that this module reads; py-amqp handles all others.
CHANNEL_OPEN = (20, 10)
CHANNEL_OPEN_OK = (20, 11)
CHANNEL_CLOSE = (20, 40)
CHANNEL_CLOSE_OK = (20, 41)
EXCHANGE_DECLARE = (40, 10)
EXCHANGE_DECLARE_OK = (40, 11)
EXCHANGE_BIND = (40, 30)
EXCHANGE_BIND_OK = (40, 31)
QUEUE_DECLARE = (50, 10)
QUEUE_DECLARE_OK = (50, 11)
QUEUE_BIND = (50, 20)
QUEUE_BIND_OK = (50, 21)
QUEUE_DELETE = (50, 40)
QUEUE_DELETE_OK = (50, 41)
QOS = (60, 10)
QOS_OK = (60, 11)
CONSUME = (60, 20)
CONSUME_OK = (60, 21)
CANCEL = CANCEL_CONSUMER = (60, 30)
PUBLISH = (60, 40)
RETURN = (60, 50)
DELIVER = (60, 60)
ACK = (60, 80)
NACK = (60, 120)

#: Answers of the broker to methods that are not sent through py-amqp.
ANSWERS = (
    CHANNEL_OPEN_OK,
    EXCHANGE_DECLARE_OK,
    EXCHANGE_BIND_OK,
    QUEUE_BIND_OK,
    QUEUE_DELETE_OK,
    QOS_OK,
)
#: Maximum bytes of a received message; the rest of a larger message is discarded while it arrives. The
#: largest message of the service is a delivery of 100,000 events.
MAX_BODY = 32 * 1024 * 1024

_END = b'\xce'
_FRAME = struct.Struct('>BHI')
_METHOD_ID = struct.Struct('>HH')
_CONTENT = struct.Struct('>HHQH')
_TAG_AND_BIT = struct.Struct('>QB')
_COUNTS = struct.Struct('>II')
_LENGTH = struct.Struct('>Q')

#: The properties of a sent message, in the order of the specification: content type, content
#: encoding, delivery mode, priority, message id.
_FLAGS = 1 << 15 | 1 << 14 | 1 << 12 | 1 << 11 | 1 << 7


def _short(text: str) -> bytes:
    """Encode a short string. :raises ValueError: it has more than 255 bytes, or cannot be encoded"""
    data = text.encode()
    if len(data) > 255:
        raise ValueError('a short string of AMQP has at most 255 bytes')
    return bytes((len(data),)) + data


#: JSON, delivery mode 1, no priority.
#:
#: NOTE: a durable classic queue writes messages of mode 2 to the disk before it confirms them.
#: Messages that a broker loses during a restart were not acknowledged, so their events are delivered again.
#: Quorum queues write every message, whatever its mode.
_PROPERTIES = _short('application/json') + _short('utf-8') + b'\x01\x00'


@dataclasses.dataclass(slots=True)
class Confirmed:
    """The broker has accepted a publish, or all up to it (``multiple``), or refused it (``ok`` is false)."""

    tag: int
    multiple: bool
    ok: bool


@dataclasses.dataclass(slots=True)
class Returned:
    """The broker has no queue for a message; the confirm of the message follows."""

    message_id: str


@dataclasses.dataclass(slots=True)
class Delivered:
    """A message for a consumer; ``too_large``: number of its bytes, if more than :data:`MAX_BODY`."""

    consumer: str
    tag: int
    body: bytes
    channel: int
    too_large: int = 0


@dataclasses.dataclass(slots=True)
class Consuming:
    """The broker has started a consumer."""

    consumer: str
    channel: int


@dataclasses.dataclass(slots=True)
class Declared:
    """A queue exists, with its number of ready messages and of consumers."""

    queue: str
    messages: int
    consumers: int
    channel: int


@dataclasses.dataclass(slots=True)
class Cancelled:
    """The broker has ended a consumer, because its queue was deleted or is unavailable."""

    consumer: str
    channel: int


@dataclasses.dataclass(slots=True)
class Answered:
    """The broker has completed a method."""

    channel: int
    method: tuple[int, int]


@dataclasses.dataclass(slots=True)
class Closed:
    """The broker has closed a channel, because it refused a method.

    :ivar code: reply code of AMQP: 403, 404, 405 or 406
    :ivar text: explanation of the broker
    :ivar method: class and method of the refused request
    """

    channel: int
    code: int
    text: str
    method: tuple[int, int]


@dataclasses.dataclass(slots=True)
class Other:
    """Any other frame, for py-amqp: type, channel and payload."""

    frame: tuple[int, int, memoryview]


Arrival = Confirmed | Returned | Delivered | Consuming | Declared | Cancelled | Answered | Closed | Other


def method(channel: int, number: tuple[int, int], layout: str = '', values: Sequence[Any] = ()) -> bytes:
    """Return the frame of a method.

    :param number: class and method
    :param layout: types of the values, in the notation of py-amqp
    """
    arguments = serialization.dumps(layout, values) if layout else b''
    parts = (_FRAME.pack(METHOD, channel, 4 + len(arguments)), _METHOD_ID.pack(*number), arguments, _END)
    return b''.join(parts)


def publish(
    channel: int, exchange: str, routing_key: str, body: bytes, message_id: str, *, frame_max: int
) -> bytes:
    """Return the frames of a mandatory publish."""
    method = b'\x00\x00' + _short(exchange) + _short(routing_key) + b'\x01'
    header = _CONTENT.pack(60, 0, len(body), _FLAGS) + _PROPERTIES + _short(message_id)
    parts = [
        _FRAME.pack(METHOD, channel, 4 + len(method)),
        _METHOD_ID.pack(*PUBLISH),
        method,
        _END,
        _FRAME.pack(HEADER, channel, len(header)),
        header,
        _END,
    ]
    # NOTE: a frame has 8 bytes in addition to its payload.
    most = frame_max - 8
    for start in range(0, len(body), most):
        piece = body[start : start + most]
        parts += (_FRAME.pack(BODY, channel, len(piece)), piece, _END)
    return b''.join(parts)


def acknowledge(channel: int, tag: int) -> bytes:
    """Return the frame that acknowledges all deliveries up to a tag."""
    return b''.join(
        (_FRAME.pack(METHOD, channel, 13), _METHOD_ID.pack(*ACK), _TAG_AND_BIT.pack(tag, 1), _END)
    )


@dataclasses.dataclass(slots=True)
class _Content:
    """A message whose content is arriving: its first frame, and the parts received so far."""

    method: tuple[int, ...]
    payload: memoryview
    header: bytes = b''
    missing: int = 0
    too_large: int = 0
    parts: list[bytes] = dataclasses.field(default_factory=list)


def consume(channel: int, queue: str, *, automatic: bool = False) -> bytes:
    """Return the frame that starts a consumer. Its tag is the name of the queue.

    :param automatic: the broker treats messages as acknowledged when it sends them
    """
    return method(channel, CONSUME, 'BssbbbbF', (0, queue, queue, False, automatic, False, False, {}))


def cancel(channel: int, queue: str) -> bytes:
    """Return the frame that ends a consumer, without an answer of the broker."""
    return method(channel, CANCEL_CONSUMER, 'sb', (queue, True))


def channel_close_ok(channel: int) -> bytes:
    """Return the frame that confirms the end of a channel."""
    return b''.join((_FRAME.pack(METHOD, channel, 4), _METHOD_ID.pack(*CHANNEL_CLOSE_OK), _END))


def declare_passively(channel: int, queue: str) -> bytes:
    """Return the frame that asks whether a queue exists. It changes nothing."""
    arguments = b'\x00\x00' + _short(queue) + b'\x01' + b'\x00\x00\x00\x00'
    return b''.join(
        (_FRAME.pack(METHOD, channel, 4 + len(arguments)), _METHOD_ID.pack(*QUEUE_DECLARE), arguments, _END)
    )


class Reader:
    """Parses the bytes of the socket, in pieces of any size, into frames and messages."""

    def __init__(self) -> None:
        self._rest = b''
        # For each channel, the content that is arriving.
        self._contents: dict[int, _Content] = {}

    def feed(self, data: bytes) -> Iterator[Arrival]:
        """Return the frames and messages that are complete with these bytes.

        :raises ConnectionError: the bytes are not frames of AMQP
        """
        data = self._rest + data if self._rest else data
        view = memoryview(data)
        at, size = 0, len(data)
        while size - at >= 8:
            kind, channel, length = _FRAME.unpack_from(data, at)
            if kind not in _KINDS:
                raise ConnectionError('the broker sent bytes that are not a frame of AMQP')
            end = at + 7 + length
            if end >= size:
                break
            if data[end] != 0xCE:
                raise ConnectionError('the broker sent bytes that are not a frame of AMQP')
            arrival = self._frame(kind, channel, view[at + 7 : end])
            at = end + 1
            if arrival is not None:
                yield arrival
        self._rest = data[at:]

    def _frame(self, kind: int, channel: int, payload: memoryview) -> Arrival | None:
        if kind == METHOD:
            return self._method(channel, payload)
        if kind == HEADER and (content := self._contents.get(channel)) is not None:
            (content.missing,) = _LENGTH.unpack_from(payload, 4)
            content.header = bytes(payload)
            content.too_large = content.missing if content.missing > MAX_BODY else 0
            return self._complete(channel, content) if not content.missing else None
        if kind == BODY and (content := self._contents.get(channel)) is not None:
            if not content.too_large:
                content.parts.append(bytes(payload))
            content.missing -= len(payload)
            return self._complete(channel, content) if content.missing <= 0 else None
        return Other((kind, channel, payload))

    def _method(self, channel: int, payload: memoryview) -> Arrival | None:
        method = _METHOD_ID.unpack_from(payload)
        if method in (ACK, NACK):
            tag, bits = _TAG_AND_BIT.unpack_from(payload, 4)
            return Confirmed(tag, bool(bits & 1), method == ACK)
        if method in (DELIVER, RETURN):
            self._contents[channel] = _Content(method, payload)
            return None
        if method == CONSUME_OK:
            return Consuming(_read_short(payload, 4), channel)
        if method == QUEUE_DECLARE_OK:
            queue = _read_short(payload, 4)
            messages, consumers = _COUNTS.unpack_from(payload, len(payload) - _COUNTS.size)
            return Declared(queue, messages, consumers, channel)
        if method in ANSWERS:
            return Answered(channel, (method[0], method[1]))
        if method == CHANNEL_CLOSE:
            text = _read_short(payload, 6)
            (code,) = struct.unpack_from('>H', payload, 4)
            return Closed(channel, code, text, _METHOD_ID.unpack_from(payload, 7 + payload[6]))
        if method == CANCEL:
            return Cancelled(_read_short(payload, 4), channel)
        return Other((METHOD, channel, payload))

    def _complete(self, channel: int, content: _Content) -> Arrival:
        del self._contents[channel]
        payload, parts = content.payload, content.parts
        if content.method == RETURN:
            # NOTE: the broker returns it with the same properties; the id is the last one.
            start = _CONTENT.size + len(_PROPERTIES)
            return Returned(_read_short(memoryview(content.header), start))
        consumer = _read_short(payload, 4)
        (tag,) = _LENGTH.unpack_from(payload, 5 + len(consumer))
        body = parts[0] if len(parts) == 1 else b''.join(parts)
        return Delivered(consumer, tag, body, channel, content.too_large)


def _read_short(payload: memoryview, at: int) -> str:
    return bytes(payload[at + 1 : at + 1 + payload[at]]).decode()
