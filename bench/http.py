"""A minimal HTTP/1.1 client side, which posts and reads answers with little processor time."""

from __future__ import annotations

_HEAD_END = b'\r\n\r\n'


class Broken(Exception):
    """The received data is not a valid response."""


class Reader:
    """Assembles a response from the parts in which it arrives.

    :ivar closes: whether the server has announced that it closes the connection after the response
    """

    def __init__(self):
        self._buffer = b''
        # The beginning and the end of the body; None: not known yet.
        self._begin = self._end = None
        self._status = 0
        self.closes = False

    def feed(self, data):
        """Add a part.

        :returns: status and body if the response is complete, otherwise None
        :raises Broken: the response is invalid
        """
        self._buffer = self._buffer + data if self._buffer else data
        if self._begin is None and not self._read_head():
            return None
        if self._end is None:
            return self._unchunked()
        if len(self._buffer) < self._end:
            return None
        return self._take(self._buffer[self._begin : self._end], self._end)

    def _read_head(self):
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return False
        head = self._buffer[:end].lower()
        if not head.startswith(b'http/1.1 '):
            raise Broken(self._buffer[:40])
        self._status = int(head[9:12])
        self._begin = end + len(_HEAD_END)
        self.closes = b'\r\nconnection: close' in head
        at = head.find(b'\r\ncontent-length:')
        if at >= 0:
            self._end = self._begin + int(head[at + 17 :].partition(b'\r\n')[0])
        elif b'\r\ntransfer-encoding: chunked' not in head:
            raise Broken('a response without a length')
        return True

    def _unchunked(self):
        at, chunks = self._begin, []
        while (line := self._buffer.find(b'\r\n', at)) >= 0:
            size = int(self._buffer[at:line].partition(b';')[0], 16)
            at = line + 2 + size + 2
            if len(self._buffer) < at:
                return None
            if size == 0:
                return self._take(b''.join(chunks), at)
            chunks.append(self._buffer[line + 2 : at - 2])
        return None

    def _take(self, body, end):
        self._buffer = self._buffer[end:]
        self._begin = self._end = None
        return self._status, body
