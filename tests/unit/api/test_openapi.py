"""The document that describes the API: valid, complete, and available to every client."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openapi_spec_validator

from external_events_router import events
from external_events_router.api import openapi
from tests import base
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}


def names(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schema of each event name in the document."""
    members = schema['properties']['events']['items']['properties']
    return {kind['const']: kind for kind in members['name']['oneOf']}


class DocumentTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.document = openapi.document()
        self.schemas = self.document['components']['schemas']

    def test_document_is_openapi(self) -> None:
        openapi_spec_validator.validate(self.document)  # type: ignore[arg-type]
        self.assertTrue(self.document['openapi'].startswith('3.1.'))

    def test_every_reference_has_a_target_and_every_component_is_used(self) -> None:
        referred = {
            text.removeprefix('#/components/')
            for text in json.dumps(self.document).split('"')
            if text.startswith('#/components/')
        }
        components = {
            f'{kind}/{name}'
            for kind, named in self.document['components'].items()
            for name in named
            if kind != 'securitySchemes'
        }
        self.assertEqual(components, referred)

    def test_every_name_is_included_from_its_microversion_on(self) -> None:
        described = names(self.schemas['batch'])
        self.assertEqual(list(events.EVENT_TYPES), list(described))
        for name, kind in events.EVENT_TYPES.items():
            major, minor = kind.min_version
            self.assertEqual({'min-ver': f'{major}.{minor}'}, described[name]['x-openstack'])
            for tag in kind.tags:
                self.assertIn(tag, described[name]['description'])
            self.assertEqual(kind.tag_required, 'tag' in described[name]['description'])
        self.assertEqual(list(events.names_at((2, 1))), list(names(self.schemas['legacyBatch'])))

    def test_schemas_accept_the_same_requests_as_the_service(self) -> None:
        batch = jsonschema.Draft202012Validator(self.schemas['batch'])
        legacy = jsonschema.Draft202012Validator(self.schemas['legacyBatch'])
        for event, admitted, admitted_by_legacy in (
            (EVENT, True, True),
            ({**EVENT, 'name': 'volume-reimaged', 'tag': 'v'}, True, False),
            ({**EVENT, 'extra': 1}, False, True),
            ({**EVENT, 'name': 'bogus'}, False, False),
            ({**EVENT, 'tag': 'x' * 256}, False, False),
        ):
            self.assertEqual(admitted, batch.is_valid({'events': [event]}), event)
            self.assertEqual(admitted_by_legacy, legacy.is_valid({'events': [event]}), event)


class ServedTest(base.TestCase):
    def test_document_needs_no_token(self) -> None:
        def refuse(inner: object) -> client.auth.WSGIApp:
            def answer(environ: object, start_response: Any) -> list[bytes]:
                start_response('401 Unauthorized', [('Content-Type', 'text/plain')])
                return [b'']

            return answer

        app = client.Client(authenticate=refuse)
        for path in ('/v2.1/openapi.json', '//v2.1//openapi.json/'):
            reply = app.call('GET', path)
            self.assertEqual((200, 'application/json'), (reply.status, reply.headers['content-type']))
            self.assertEqual(openapi.document('http://front.test'), reply.json)
            self.assertIn('x-openstack-request-id', reply.headers)
        self.assertEqual(401, app.call('POST', client.PATH).status)

    def test_other_methods(self) -> None:
        for method in ('POST', 'HEAD', 'DELETE'):
            self.assertEqual(404, client.Client().call(method, '/v2.1/openapi.json').status)
