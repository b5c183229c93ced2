"""The service keeps what its OpenAPI document promises, whatever schemathesis thinks of.

The API is called through its WSGI application, with a resolver and agents
behind it, for a bounded number of requests that are the same in every run.
"""

from __future__ import annotations

import hypothesis
import schemathesis
from schemathesis.specs.openapi import checks

from external_events_router.api import openapi
from tests import base
from tests import generated
from tests.functional import fixtures

SERVER = '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01'
PROJECT = 'fedcba9876543210fedcba9876543210'

#: Requests per operation and kind.
EXAMPLES = generated.examples(20, suppress_health_check=list(hypothesis.HealthCheck))

EXCLUDED_CHECKS = [
    # A method that a path does not have is answered 404, as by Nova, and not 405.
    checks.unsupported_method,
    checks.allow_header_conformance,
    # No token is required here.
    checks.ignored_auth,
]


class OpenAPITest(base.TestCase):
    """Every operation of the document, with good requests and with bad ones."""

    # NOTE: some hundreds of requests; half a minute where others are at work too.
    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        self.router = self.useFixture(fixtures.Router({SERVER: ['host-a']}))
        self.schema = schemathesis.openapi.from_wsgi('/v2.1/openapi.json', self.router.app)
        self.operations = {
            operation.label: operation
            for result in self.schema.get_all_operations()
            if (operation := result.ok())
        }

    def attack(self, operation, mode, known=None):
        """Send an operation's requests and judge the answers.

        :param known: the server of all events; None: they are for unknown ones
        """
        strategy = operation.as_strategy(
            generation_mode=mode,
            headers={} if operation.path.startswith('/v2/') else {'OpenStack-API-Version': 'compute latest'},
            path_parameters={'project_id': PROJECT} if '{' in operation.path else None,
        )
        statuses = set()

        @EXAMPLES
        @hypothesis.given(strategy)
        def check(case):
            if known is not None:
                for event in case.body['events']:
                    event['server_uuid'] = known
            response = case.call()
            statuses.add(response.status_code)
            case.validate_response(response, excluded_checks=EXCLUDED_CHECKS)

        try:
            check()
        except BaseExceptionGroup as group:
            # NOTE: no Exception, so that it would end the whole run.
            raise AssertionError(f'{operation.label}: {group}, {group.exceptions}') from None
        return statuses

    def test_operations(self):
        # NOTE: schemathesis leaves out the operation that it read the document by.
        self.assertEqual(len(openapi.document()['paths']) - 1, len(self.operations))
        for label, operation in self.operations.items():
            if label.startswith('GET'):
                self.assertIn(200, self.attack(operation, schemathesis.GenerationMode.POSITIVE), label)
            else:
                good = schemathesis.GenerationMode.POSITIVE
                self.assertEqual({404}, self.attack(operation, good), label)
                # NOTE: no event that /v2 knows can lack a tag.
                delivered = {200} if operation.path.startswith('/v2/') else {200, 207}
                self.assertEqual(delivered, self.attack(operation, good, known=SERVER), label)
                self.assertIn(400, self.attack(operation, schemathesis.GenerationMode.NEGATIVE), label)
