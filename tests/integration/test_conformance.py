"""The project's own cases of requests and answers over HTTP, as the bundled server hands them on.

The functional tests have the cases that depend on the roles of the client: here, no token
is required.
"""

from __future__ import annotations

import http.client

from tests import base
from tests.conformance import cases
from tests.integration import deployment
from tests.integration import services

CHUNK = 64 * 1024


class OverHTTPTest(base.TestCase):
    """One deployment for all cases; every request on a connection of its own."""

    TIMEOUT_SCALING_FACTOR = 5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        broker, database = services.RabbitMQ(), services.PostgreSQL()
        for fixture in (broker, database):
            fixture.setUp()
            cls.addClassCleanup(fixture.cleanUp)
        cls.router = deployment.Deployment(
            transport_url=broker.url,
            connection=database.url,
            hosts=('host-a', 'host-b'),
            hosts_of=cases.HOSTS_OF,
            api__none_found_status=207,
            api__workers=1,
            resolver__workers=1,
        )
        cls.router.setUp()
        cls.addClassCleanup(cls.router.cleanUp)

    def send(self, request):
        """Have a request answered.

        :returns: a ``cases.Answer``
        """
        connection = http.client.HTTPConnection('127.0.0.1', self.router.port, timeout=deployment.PATIENCE)
        self.addCleanup(connection.close)
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if request.chunked:
            connection.putheader('Transfer-Encoding', 'chunked')
            connection.endheaders(_chunks(request.body), encode_chunked=True)
        else:
            if request.body is not None:
                connection.putheader('Content-Length', str(len(request.body)))
            connection.endheaders(request.body)
        with connection.getresponse() as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = cases.Answer(response.status, headers, response.read())
        connection.close()
        return answer

    def judge(self, *names):
        found = []
        for name in names:
            asked = [
                case
                for case in cases.load(name, self.router.url)
                if case.request.roles is None or name == 'documents'
            ]
            found += cases.all_problems(asked, self.send)
        self.assertEqual([], found, '\n'.join(found))

    def test_cases(self):
        self.judge(*(name for name in cases.names() if name != 'callers'))


def _chunks(body):
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]
