"""The admin API keeps the promises of its OpenAPI document, for requests that schemathesis generates."""

from __future__ import annotations

import fixtures as fixtures_library
import hypothesis
from openapi_spec_validator import validate
import schemathesis
from schemathesis.specs.openapi import checks

from external_events_router.admin import openapi
from external_events_router.admin import routes
from tests import base
from tests.functional import admin
from tests.functional import fixtures

SERVER = '0000000a-0000-4000-8000-000000000000'

#: Requests per operation and kind.
EXAMPLES = hypothesis.settings(
    max_examples=5,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)

#: Checks that do not apply: the test has no token, and a valid request can have a period in the future, a
#: confirmation of another preview, or a version that the object no longer has.
NOT_APPLICABLE = [checks.ignored_auth, checks.positive_data_acceptance]


class OpenAPITest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 10

    def setUp(self):
        super().setUp()
        self.router = self.useFixture(fixtures.Router({SERVER: ['host-a']}, admin__max_limit=50))
        self.admin = self.useFixture(admin.Admin(self.router))
        self.router.post(fixtures.event(SERVER))

    def test_document_is_valid_and_complete(self):
        document = openapi.document()
        validate(document)
        described = {
            (method.upper(), path.removeprefix(routes.PREFIX))
            for path, operations in document['paths'].items()
            for method in operations
            if path != openapi.PATH
        }
        self.assertEqual({(route.method, route.path) for route in routes.ROUTES}, described)
        self.assertEqual(50, self._limit(self.admin.get('/openapi.json')))

    def _limit(self, document):
        found = document['paths'][f'{routes.PREFIX}/events']['get']['parameters']
        return next(each['schema']['maximum'] for each in found if each['name'] == 'limit')

    def test_operations(self):
        # NOTE: the test has no tokens; schemathesis would expect 401 for a request without one.
        self.useFixture(fixtures_library.MonkeyPatch('external_events_router.admin.openapi.SECURITY', []))
        schema = schemathesis.openapi.from_wsgi(openapi.PATH, self.admin.app)
        operations = [found for result in schema.get_all_operations() if (found := result.ok())]
        self.assertEqual(len(routes.ROUTES), len(operations))
        for operation in operations:
            self.attack(operation, schemathesis.GenerationMode.POSITIVE)
            if operation.definition.raw.get('parameters') or 'requestBody' in operation.definition.raw:
                self.attack(operation, schemathesis.GenerationMode.NEGATIVE)

    def attack(self, operation, mode):
        """Send requests of one operation, and check each answer."""
        query = {'wait': 0} if operation.path.endswith('/follow') else None
        strategy = operation.as_strategy(generation_mode=mode)

        @EXAMPLES
        @hypothesis.given(strategy)
        def check(case):
            if query is not None and mode is schemathesis.GenerationMode.POSITIVE:
                case.query = {**(case.query or {}), **query}
            response = case.call()
            self.assertLess(response.status_code, 500, response.text)
            case.validate_response(response, excluded_checks=NOT_APPLICABLE)

        try:
            check()
        except BaseExceptionGroup as group:
            # NOTE: not an Exception, so that it would end the whole run.
            raise AssertionError(f'{operation.label}: {group}, {group.exceptions}') from None
