"""Frames of AMQP 0-9-1 that come and go by the thousand: publishes, confirms, deliveries.

py-amqp logs in and does all that is rare; what is here costs a tenth of its way
for a message. Numbers and layouts: the AMQP 0-9-1 specification, and RabbitMQ's
page on publisher confirms for the frames that are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import struct

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
_KINDS = (METHOD, HEADER, BODY, HEARTBEAT)

#: Class and method of what is read here; everything else is py-amqp's to handle.
CHANNEL_CLOSE = (20, 40)
CHANNEL_CLOSE_OK = (20, 41)
DECLARE = (50, 10)
DECLARE_OK = (50, 11)
CONSUME_OK = (60, 21)
CANCEL = (60, 30)
PUBLISH = (60, 40)
RETURN = (60, 50)
DELIVER = (60, 60)
ACK = (60, 80)
NACK = (60, 120)

_END = b'\xce'
_FRAME = struct.Struct('>BHI')
_METHOD_ID = struct.Struct('>HH')
_CONTENT = struct.Struct('>HHQH')
_TAG_AND_BIT = struct.Struct('>QB')
_COUNTS = struct.Struct('>II')

#: Content type, content encoding, delivery mode, priority, message id: which
#: properties a message of ours has, in the order of the specification.
_FLAGS = 1 << 15 | 1 << 14 | 1 << 12 | 1 << 11 | 1 << 7


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data


#: As oslo.messaging sends: JSON, kept by durable queues, no priority.
_PROPERTIES = _short('application/json') + _short('utf-8') + b'\x02\x00'


@dataclasses.dataclass(slots=True)
class Confirmed:
    """The broker has taken a publish, or all up to it (``multiple``), or has not (``ok`` is false)."""

    tag: int
    multiple: bool
    ok: bool


@dataclasses.dataclass(slots=True)
class Returned:
    """The broker has no queue for a message; its confirm follows."""

    message_id: str


@dataclasses.dataclass(slots=True)
class Delivered:
    """A message for a consumer."""

    consumer: str
    tag: int
    body: bytes


@dataclasses.dataclass(slots=True)
class Consuming:
    """The broker has begun to send to a consumer."""

    consumer: str


@dataclasses.dataclass(slots=True)
class Declared:
    """A queue is there, with so many messages that are ready and so many consumers."""

    queue: str
    messages: int
    consumers: int


@dataclasses.dataclass(slots=True)
class Ended:
    """The broker has ended the channel, or a consumer, whose queue is gone."""

    reason: str


@dataclasses.dataclass(slots=True)
class Other:
    """Anything else, as py-amqp takes it: type, channel and payload."""

    frame: tuple[int, int, memoryview]


Arrival = Confirmed | Returned | Delivered | Consuming | Declared | Ended | Other


def publish(
    channel: int, exchange: str, routing_key: str, body: bytes, message_id: str, *, frame_max: int
) -> bytes:
    """The frames of a mandatory publish."""
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
    # NOTE: a frame has 8 bytes around its payload.
    most = frame_max - 8
    for start in range(0, len(body), most):
        piece = body[start : start + most]
        parts += (_FRAME.pack(BODY, channel, len(piece)), piece, _END)
    return b''.join(parts)


def acknowledge(channel: int, tag: int) -> bytes:
    """The frame that acknowledges every delivery up to a tag."""
    return b''.join(
        (_FRAME.pack(METHOD, channel, 13), _METHOD_ID.pack(*ACK), _TAG_AND_BIT.pack(tag, 1), _END)
    )


def channel_close_ok(channel: int) -> bytes:
    """The frame that confirms the end of a channel."""
    return b''.join((_FRAME.pack(METHOD, channel, 4), _METHOD_ID.pack(*CHANNEL_CLOSE_OK), _END))


def declare_passively(channel: int, queue: str) -> bytes:
    """The frame that asks whether a queue is there; it changes nothing."""
    method = b'\x00\x00' + _short(queue) + b'\x01' + b'\x00\x00\x00\x00'
    return b''.join((_FRAME.pack(METHOD, channel, 4 + len(method)), _METHOD_ID.pack(*DECLARE), method, _END))


class Reader:
    """Makes arrivals out of what comes from the socket, in whatever pieces."""

    def __init__(self) -> None:
        self._rest = b''
        # The content that is coming in: what begins it, how long it is, and
        # its parts so far.
        self._begun: tuple[tuple[int, int], memoryview] | None = None
        self._header = b''
        self._missing = 0
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Arrival]:
        """What has arrived with some more bytes.

        :raises ConnectionError: they are not frames
        """
        data = self._rest + data if self._rest else data
        view = memoryview(data)
        at, size = 0, len(data)
        while size - at >= 8:
            kind, channel, length = _FRAME.unpack_from(data, at)
            if kind not in _KINDS:
                raise ConnectionError('the broker sent what is no frame')
            end = at + 7 + length
            if end >= size:
                break
            if data[end] != 0xCE:
                raise ConnectionError('the broker sent what is no frame')
            arrival = self._frame(kind, channel, view[at + 7 : end])
            at = end + 1
            if arrival is not None:
                yield arrival
        self._rest = data[at:]

    def _frame(self, kind: int, channel: int, payload: memoryview) -> Arrival | None:
        if kind == METHOD:
            return self._method(channel, payload)
        if kind == HEADER and self._begun is not None:
            (self._missing,) = struct.unpack_from('>Q', payload, 4)
            self._header, self._parts = bytes(payload), []
            return self._content() if not self._missing else None
        if kind == BODY and self._begun is not None:
            self._parts.append(bytes(payload))
            self._missing -= len(payload)
            return self._content() if self._missing <= 0 else None
        return Other((kind, channel, payload))

    def _method(self, channel: int, payload: memoryview) -> Arrival | None:
        method = _METHOD_ID.unpack_from(payload)
        if method in (ACK, NACK):
            tag, bits = _TAG_AND_BIT.unpack_from(payload, 4)
            return Confirmed(tag, bool(bits & 1), method == ACK)
        if method in (DELIVER, RETURN):
            self._begun = (method, payload)
            return None
        if method == CONSUME_OK:
            return Consuming(_read_short(payload, 4))
        if method == DECLARE_OK:
            queue = _read_short(payload, 4)
            messages, consumers = _COUNTS.unpack_from(payload, len(payload) - _COUNTS.size)
            return Declared(queue, messages, consumers)
        if method == CHANNEL_CLOSE:
            return Ended(_read_short(payload, 6))
        if method == CANCEL:
            return Ended(f'the queue of consumer {_read_short(payload, 4)} is gone')
        return Other((METHOD, channel, payload))

    def _content(self) -> Arrival:
        assert self._begun is not None  # noqa: S101 - a content begins with its method
        (method, payload), self._begun = self._begun, None
        body = self._parts[0] if len(self._parts) == 1 else b''.join(self._parts)
        if method == RETURN:
            # NOTE: it comes back with the properties that we gave it, the id last.
            ours = _CONTENT.size + len(_PROPERTIES)
            return Returned(_read_short(memoryview(self._header), ours))
        consumer = _read_short(payload, 4)
        (tag,) = struct.unpack_from('>Q', payload, 5 + len(consumer))
        return Delivered(consumer, tag, body)


def _read_short(payload: memoryview, at: int) -> str:
    return bytes(payload[at + 1 : at + 1 + payload[at]]).decode()
