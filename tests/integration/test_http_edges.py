"""Requests that no HTTP client sends, byte for byte, at each HTTP server of the API.

Where a server and a proxy before it disagree about where a request ends or who sent it, a client
can do what its token does not allow. Each case has the statuses that it may be answered with.
"""

from concurrent import futures
import contextlib
import http.client
import json
import select
import socket
import sys

from tests import base
from tests.integration import deployment
from tests.integration import services
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}
BODY = json.dumps({'events': [EVENT]}).encode()
CHUNKED = 'Transfer-Encoding: chunked'
LENGTH = f'Content-Length: {len(BODY)}'

OK, BAD = {200}, {400}


def head(*more, token='service', method='POST', path=client.PATH, version='1.1', host='Host: front.test'):  # noqa: S107
    """The head of a request."""
    lines = [f'{method} {path} HTTP/{version}', host, 'Content-Type: application/json']
    if token is not None:
        lines.append(f'X-Auth-Token: {token}')
    return '\r\n'.join([*filter(None, (*lines, *more)), '', '']).encode('latin-1')


def chunk(data):
    """A chunk."""
    return b'%x\r\n%s\r\n' % (len(data), data)


def sized(size, after=b'\r\n0\r\n\r\n'):
    """A request whose first chunk has a size of any form."""
    return head(CHUNKED) + size + b'\r\n' + BODY + after


WHOLE = head(CHUNKED) + chunk(BODY)
SIZE = b'%x' % len(BODY)

#: Name to the sent bytes, and the allowed statuses. The client ends its side afterwards.
CHUNKS = {
    'one chunk': (WHOLE + b'0\r\n\r\n', OK),
    'two chunks': (head(CHUNKED) + chunk(BODY[:9]) + chunk(BODY[9:]) + b'0\r\n\r\n', OK),
    'an extension': (sized(SIZE + b';a=b'), OK),
    'the size in capitals, with zeros': (sized(b'00' + SIZE.upper()), OK),
    'the coding in capitals': (head('Transfer-Encoding: CHUNKED') + chunk(BODY) + b'0\r\n\r\n', OK),
    'trailers': (WHOLE + b'0\r\nX-Trailer: a\r\n\r\n', OK),
    'trailers that claim a role': (
        head(CHUNKED, token='reader') + chunk(BODY) + b'0\r\nX-Auth-Token: service\r\n\r\n',
        {403},
    ),
    'nothing': (head(CHUNKED) + b'0\r\n\r\n', BAD),
    'no last chunk': (WHOLE, BAD),
    'the last chunk without its end': (WHOLE + b'0\r\n', BAD),
    'half of the last chunk': (WHOLE + b'0', BAD),
    'a chunk that breaks off': (head(CHUNKED) + b'ffff\r\n' + BODY, BAD),
    'a chunk without a line end after it': (head(CHUNKED) + SIZE + b'\r\n' + BODY + b'0\r\n\r\n', BAD),
    'a chunk that is longer than its size': (sized(b'%x' % (len(BODY) - 1)), BAD),
    'a chunk that is shorter than its size': (sized(b'%x' % (len(BODY) + 1)), BAD),
    'the size ZZZ': (sized(b'ZZZ'), BAD),
    'ZZZ for the last chunk': (WHOLE + b'ZZZ\r\n\r\n', BAD),
    'no size': (WHOLE + b'\r\n\r\n', BAD),
    'line feeds alone': (head(CHUNKED) + SIZE + b'\n' + BODY + b'\n0\n\n', BAD),
    'a negative size': (sized(b'-1'), BAD),
    'a size with a sign': (sized(b'+' + SIZE), BAD),
    'a size with 0x': (sized(b'0x' + SIZE), BAD),
    'a size with an underscore': (sized(SIZE[:1] + b'_' + SIZE[1:]), BAD),
    'a size of 18 digits': (sized(b'f' * 18), BAD),
    'an endless extension': (sized(SIZE + b';' + b'a' * 100_000), BAD),
    'endless trailers': (WHOLE + b'0\r\nX-A: ' + b'b' * 200_000 + b'\r\n\r\n', BAD),
}

LENGTHS = {
    'a length': (head(LENGTH) + BODY, OK),
    'the same length twice': (head(LENGTH, LENGTH) + BODY, OK | BAD),
    'two lengths': (head(LENGTH, 'Content-Length: 3') + BODY, BAD),
    'two lengths in one line': (head(f'{LENGTH}, 3') + BODY, BAD),
    'a negative length': (head('Content-Length: -1') + BODY, BAD),
    'a length with a sign': (head(f'Content-Length: +{len(BODY)}') + BODY, BAD),
    'a length with an underscore': (head('Content-Length: 9_7') + BODY, BAD),
    'a length in hex': (head(f'Content-Length: 0x{len(BODY):x}') + BODY, BAD),
    'an empty length': (head('Content-Length: ') + BODY, BAD),
    'a length of 40 digits': (head('Content-Length: ' + '9' * 40) + BODY, BAD | {413}),
    'a length of 2 to the power of 64': (head(f'Content-Length: {2**64}') + BODY, BAD | {413, 431}),
    'a body that is shorter than its length': (head('Content-Length: 1000') + BODY, BAD),
    'no length': (head() + BODY, BAD),
    'a length below an underscore': (head('Content_Length: 3', LENGTH) + BODY, OK),
}

CODINGS = {
    'chunked twice': (head(CHUNKED, CHUNKED) + chunk(BODY) + b'0\r\n\r\n', BAD | {501}),
    'gzip before it': (head('Transfer-Encoding: gzip, chunked') + chunk(BODY) + b'0\r\n\r\n', {501}),
    'gzip after it': (head('Transfer-Encoding: chunked, gzip') + chunk(BODY) + b'0\r\n\r\n', BAD | {501}),
    'identity': (head('Transfer-Encoding: identity', LENGTH) + BODY, BAD | {501}),
    'another one': (head('Transfer-Encoding: xchunked') + chunk(BODY) + b'0\r\n\r\n', BAD | {501}),
    'a space before the colon': (head('Transfer-Encoding : chunked', LENGTH) + BODY, BAD),
    'a control character': (head('Transfer-Encoding: \x0bchunked', LENGTH) + BODY, BAD | {501}),
    'an underscore': (head('Transfer_Encoding: chunked') + chunk(BODY) + b'0\r\n\r\n', BAD),
}

HEADERS = {
    'a folded line': (head('X-A: b\r\n c', LENGTH) + BODY, BAD),
    'a line without a colon': (head('X-A', LENGTH) + BODY, BAD),
    'a carriage return alone': (head('X-A: a\rX-Roles: service', LENGTH) + BODY, BAD),
    'two hosts': (head('Host: other', LENGTH) + BODY, BAD),
    'a request id that is not ASCII': (head('X-OpenStack-Request-ID: req-\xff\xfe', LENGTH) + BODY, OK),
    'a request id with controls': (head('X-OpenStack-Request-ID: req-\x01\x1b[2J', LENGTH) + BODY, OK | BAD),
    'a path that is not UTF-8': (head(LENGTH, path='/v2.1/%ff%fe/os-server-external-events') + BODY, {404}),
    'a path with raw bytes': (head(LENGTH, path='/v2.1/\xff') + BODY, BAD | {404}),
    'a query that is not UTF-8': (head(LENGTH, path=client.PATH + '?a=%ff') + BODY, OK),
    'headers of 60 KB': (head('X-A: ' + 'a' * 60_000, LENGTH) + BODY, OK),
    'headers of 65 KiB': (head('X-A: ' + 'a' * 65 * 1024, LENGTH) + BODY, {431}),
    'headers of 65 KiB in 60 lines': (head(*['X-A: ' + 'a' * 1100] * 60, LENGTH) + BODY, {431}),
    'headers of 100 KiB': (head('X-A: ' + 'a' * 102_400, LENGTH) + BODY, {431}),
    'headers of 300 KiB': (head('X-A: ' + 'a' * 307_200, LENGTH) + BODY, {413, 431}),
    'an unknown expectation': (head('Expect: 200-ok', LENGTH) + BODY, OK | {417}),
}

TOKENS = {
    'a role that is claimed': (head('X-Roles: service', LENGTH, token='reader') + BODY, {403}),
    'a role that is claimed with an underscore': (
        head('X_Roles: service', 'X_ROLES: admin', 'X_IDENTITY_STATUS: Confirmed', LENGTH, token='reader')
        + BODY,
        {403},
    ),
    'claims without a token': (
        head(
            *('X_Roles: service', 'X_Identity_Status: Confirmed', 'X_User_Id: a', 'X_Service_Roles: service'),
            LENGTH,
            token=None,
        )
        + BODY,
        {401},
    ),
    'claims with an invalid token': (
        head('X_ROLES: admin', 'X_IDENTITY_STATUS: Confirmed', LENGTH, token='invalid') + BODY,
        {401},
    ),
    'a token of 9 KB': (head(LENGTH, token='a' * 9000) + BODY, {401}),
    'a service token of 9 KB': (head('X-Service-Token: ' + 'a' * 9000, LENGTH) + BODY, {401}),
    'a token that is not ASCII': (head(LENGTH, token='\xe9' * 9) + BODY, {401}),
    'two tokens': (head('X-Auth-Token: service', LENGTH, token='reader') + BODY, {401, 403}),
    'a malformed body without the right': (head('Content-Length: 1', token='reader') + b'{', {403}),
}

#: Headers with underscores that the server must not take for those with hyphens. granian does, see
#: the documentation: WSGI has one name for both, and it hands over no other.
IGNORED = {
    'a token': (head('X_Auth_Token: service', LENGTH, token=None) + BODY, {401}),
    'another token': (head('X_Auth_Token: service', LENGTH, token='reader') + BODY, {403}),
    'a microversion': (head('OpenStack_API_Version: compute 2.999', LENGTH) + BODY, OK),
    'a content type': (head('Content_Type: text/xml', LENGTH) + BODY, OK),
}


class EdgesOf:
    """The cases of one server."""

    TIMEOUT_SCALING_FACTOR = 5
    SERVER = ''

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        folder = services.Folder()
        folder.setUp()
        stack.callback(folder.cleanUp)
        cls.port = deployment.free_port()
        command = [sys.executable, '-m', 'tests.integration.http_servers', cls.SERVER, cls.port]
        cls.process = deployment.Process(cls.SERVER, command, folder.path)
        cls.process.setUp()
        stack.callback(cls.process.cleanUp)
        deployment.wait_until(lambda: deployment.listens(cls.port), f'the port of {cls.SERVER}')

    def answer(self, raw):
        """Send a request, and the end of the client's side if nothing is answered to it.

        :returns: the status of the first answer, or None without an answer; and its body
        """
        # NOTE: granian does not answer a client that has ended its side, which cannot be distinguished from a
        # slow answer. Requests without an answer are therefore repeated with a longer time limit.
        status, body = None, b''
        for client_wait in (0.5, 3.0, 10.0):
            status, body = self.answer_within(raw, client_wait)
            if status is not None:
                break
        return status, body

    def answer_within(self, raw, client_wait):
        """As :meth:`answer`.

        :param client_wait: seconds until the client ends its side
        """
        with socket.create_connection(('127.0.0.1', self.port), timeout=30) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(raw)
                if not select.select([connection], [], [], client_wait)[0]:
                    connection.shutdown(socket.SHUT_WR)
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                return None, b''

    def judge(self, table):
        found = {}
        # NOTE: some are answered when the client has ended its side, so several wait together.
        with futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(self.answer, (raw for raw, _allowed in table.values())))
        for (name, (_raw, allowed)), (status, body) in zip(table.items(), answers, strict=True):
            if status not in allowed:
                found[name] = status, body[:100]
        self.assertEqual({}, found)
        # It serves, and has logged no traceback.
        self.assertEqual(200, self.answer(head(LENGTH) + BODY)[0])
        self.assertNotIn('Traceback', self.process.text())

    def test_chunks(self):
        self.judge(CHUNKS)

    def test_lengths(self):
        self.judge(LENGTHS)

    def test_codings(self):
        self.judge(CODINGS)

    def test_headers(self):
        self.judge(HEADERS)

    def test_tokens(self):
        self.judge(TOKENS)

    def test_the_form_of_an_answer_about_headers(self):
        for raw, name, code in (
            (head('X-A: ' + 'a' * 70_000, LENGTH) + BODY, 'computeFault', 431),
            (WHOLE, 'badRequest', 400),
        ):
            status, body = self.answer(raw)
            self.assertEqual((code, [name]), (status, list(json.loads(body))))

    def test_broken_body_cannot_hide_a_request(self):
        hidden = head(LENGTH, path='/v2.1/hidden') + BODY
        for name, raw in {
            'chunks': head(CHUNKED) + chunk(BODY) + b'ZZZ\r\n' + hidden,
            'size': sized(b'0x0') + hidden,
            'codings': head('Transfer-Encoding: chunked, identity') + b'0\r\n\r\n' + hidden,
        }.items():
            with socket.create_connection(('127.0.0.1', self.port), timeout=30) as connection:
                connection.sendall(raw)
                connection.settimeout(1)
                got = b''
                with contextlib.suppress(OSError):
                    while part := connection.recv(65536):
                        got += part
            self.assertEqual(1, got.count(b'HTTP/1.1 '), (name, got))

    def test_a_body_that_is_too_large_in_chunks(self):
        most = 2 * 1024 * 1024
        fits = head(CHUNKED) + chunk(BODY.ljust(most)) + b'0\r\n\r\n'
        self.assertEqual(200, self.answer(fits)[0])
        larger = head(CHUNKED) + chunk(BODY.ljust(most + 1)) + b'0\r\n\r\n'
        self.assertEqual(413, self.answer(larger)[0])
        tiny = head(CHUNKED) + b'1\r\n \r\n' * most + b'0\r\n\r\n'
        # NOTE: a server that stops reading may end the connection before its answer is read.
        self.assertIn(self.answer(tiny)[0], (400, 413, None))


class GranianTest(EdgesOf, base.TestCase):
    SERVER = 'granian'


class CherootTest(EdgesOf, base.TestCase):
    SERVER = 'cheroot'

    def test_underscores(self):
        self.judge(IGNORED)
