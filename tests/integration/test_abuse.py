"""Each abuse is answered or cut, in bounded time and memory, while a good sender is served.

The assertions hold also on a loaded machine: they require that the good sender
is answered, without a time limit. The measurements are printed. The measurement with
the default options and thousands of connections is made and checked by
``python -m tests.integration.abuse --full``.
"""

import contextlib
import http.client
import json
import re

from tests import base
from tests.integration import abuse
from tests.integration import attacks
from tests.integration import services

#: Ends lines, moves cursors, turns the text round, is half a character.
BAD = '\n\r\x00\x07\x08\x1b[2J\x7f\x85\x9b2J\u2028\u2029\u202e\u2066\ufeff\udc80'

#: Text with the form of a line of the log.
FORGED = '2001-01-01 00:00:00.000 1 CRITICAL forged'

#: What no log may have but at the end of a line.
RAW = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]')

UNKNOWN = '00000002-0000-4000-8000-000000000000'
SILENT = '00000003-0000-4000-8000-000000000000'


class AbuseTest(base.TestCase):
    """One deployment for all: so the last ones meet what the first ones left."""

    TIMEOUT_SCALING_FACTOR = 5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        abuse.allow_files()
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        cls.router = abuse.deploy(cls.stack, services.MySQL(), **abuse.SHORT_OPTIONS, debug='true')
        cls.router.import_hosts({SILENT: ['host-without-agent']})
        cls.measure = abuse.Measure(cls.router)
        cls.measure.good_alone(2)

    def check(self, name):
        """Do it, say what came of it, and hold it against its bounds."""
        row = self.measure.attack(name, *attacks.ATTACKS[name].short)
        print(' | '.join(row.cells()))
        self.assertEqual([], list(row.problems(slowest=abuse.EVER)), row)

    def send(self, method, path, body=b'', headers=()):
        """A request, byte for byte.

        :returns: the status, or None if there was no answer
        """
        connection = http.client.HTTPConnection('127.0.0.1', self.router.port, timeout=30)
        with contextlib.closing(connection):
            connection._validate_path = connection._validate_method = lambda _text: None
            connection.putrequest(method, path, skip_accept_encoding=True)
            connection._buffer += [name + b': ' + value for name, value in headers]
            connection.putheader('Content-Length', str(len(body)))
            connection.endheaders(body)
            try:
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return None

    def test_nothing_that_is_sent_forges_a_line_of_a_log(self):
        text = f'tag {BAD}\n{FORGED}'
        for server in (attacks.SERVER, UNKNOWN, SILENT):
            event = {'name': 'network-changed', 'server_uuid': server}
            for changed in ({'tag': text}, {'tag': text.rstrip('\udc80').replace('\udc80', '')}):
                self.send('POST', attacks.PATH, json.dumps({'events': [{**event, **changed}]}).encode())
            for member in ('name', 'server_uuid', 'status', text):
                self.send('POST', attacks.PATH, json.dumps({'events': [{**event, member: text}]}).encode())
        self.send('POST', attacks.PATH, text.encode(errors='replace'))
        raw = text.encode(errors='replace')
        eighth = bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F) + b'\x9b2J\x85\xff'
        good = json.dumps({'events': [{'name': 'network-changed', 'server_uuid': attacks.SERVER}]}).encode()
        for name in (
            b'X-OpenStack-Request-ID',
            b'X-Auth-Token',
            b'X-Service-Token',
            b'OpenStack-API-Version',
            b'X-OpenStack-Nova-API-Version',
            b'Content-Type',
            b'Accept',
            b'User-Agent',
            b'X-Forwarded-For',
            b'X-Roles',
            b'X-User-Id',
        ):
            for value in (
                eighth,
                raw,
                b'a\r\n ' + FORGED.encode(),
                b'a\rX: b',
                b'\x1b[2J',
                b'req-\xe2\x80\xa8',
            ):
                self.send('POST', attacks.PATH, good, [(name, value)])
        escaped = ''.join(f'%{byte:02x}' for byte in raw)
        for path in (
            f'/{escaped}',
            f'/v2.1/{escaped}/os-server-external-events',
            f'/v2.1/?{escaped}',
            '/\x1b[2J',
        ):
            for method in ('GET', 'POST', 'FORGED\x1b'):
                self.send(method, path)
        self.assertEqual(
            (200, [200]), self.router.post({'name': 'network-changed', 'server_uuid': attacks.SERVER})
        )
        self.assert_logs_are_clean()

    def assert_logs_are_clean(self):
        together = ''
        for process in self.router.processes:
            text = process.log.read_bytes().decode('utf-8', 'surrogateescape')
            for line in text.split('\n'):
                self.assertIsNone(RAW.search(line), f'{process.name}: {line!a}')
                self.assertFalse(line.startswith(FORGED[:10]), line)
            together += text
        # The attack has sent this text.
        self.assertIn(f'\\n{FORGED}', together)


def _test_of(name):
    def test(self):
        self.check(name)

    test.__doc__ = attacks.ATTACKS[name].text
    return test


for _name in attacks.ATTACKS:
    setattr(AbuseTest, f'test_{_name.replace("-", "_")}', _test_of(_name))
