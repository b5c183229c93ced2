"""The events resource: requests and their answers."""

from __future__ import annotations

import json
from typing import Any

import fixtures
import hypothesis
from hypothesis import strategies

from external_events_router import events
from external_events_router.api import bodies
from tests import base
from tests import generated
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}
VERSION = 'OpenStack-API-Version'
LATEST = {'OpenStack-API-Version': 'compute latest'}

DELIVERED: dict[str, Any] = {'status': 'completed', 'code': 200}


class CodesTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.app = client.Client()

    def test_each_code_is_in_the_place_of_its_event(self) -> None:
        tagless = {'name': 'volume-extended', 'server_uuid': client.PLACED}
        unplaced = {**EVENT, 'server_uuid': client.UNPLACED, 'tag': 'a'}
        unknown = {**EVENT, 'server_uuid': client.UNKNOWN}
        reply = self.app.post([unplaced, EVENT, unknown, tagless, EVENT], LATEST)
        self.assertEqual(207, reply.status)
        self.assertEqual(
            [
                {**unplaced, 'status': 'failed', 'code': 422},
                {**EVENT, **DELIVERED},
                {**unknown, 'status': 'failed', 'code': 404},
                {**tagless, 'status': 'failed', 'code': 400},
                {**EVENT, **DELIVERED},
            ],
            reply.json['events'],
        )

    def test_all_delivered(self) -> None:
        reply = self.app.post([EVENT, {**EVENT, 'tag': 'x'}])
        self.assertEqual(
            (200, [{**EVENT, **DELIVERED}, {**EVENT, 'tag': 'x', **DELIVERED}]),
            (reply.status, reply.json['events']),
        )

    def test_all_events_failed_with_the_same_code(self) -> None:
        reply = self.app.post([{**EVENT, 'server_uuid': client.UNPLACED}] * 2)
        self.assertEqual(207, reply.status)
        self.assertEqual([422, 422], [event['code'] for event in reply.json['events']])

    def test_no_server_was_found(self) -> None:
        batch = [{**EVENT, 'server_uuid': client.UNKNOWN}] * 2
        reply = self.app.post(batch)
        self.assertEqual((404, ('itemNotFound', 404)), (reply.status, reply.fault))
        self.assertEqual('compute 2.1', reply.headers['openstack-api-version'])
        reply = client.Client(api__none_found_status=207).post(batch)
        self.assertEqual(207, reply.status)
        self.assertEqual([404, 404], [event['code'] for event in reply.json['events']])

    def test_status_of_the_response_depends_on_the_codes(self) -> None:
        for status in events.STATUSES:
            reply = self.app.post([{**EVENT, 'status': status}])
            self.assertEqual([{**EVENT, **DELIVERED}], reply.json['events'])
            self.assertEqual(status, self.app.resolver.batches[-1][0].status)

    def test_uuid_in_any_form_is_the_same_server(self) -> None:
        bare = client.PLACED.replace('-', '')
        for form in (client.PLACED.upper(), bare, f'urn:uuid:{client.PLACED}', f'{{{client.PLACED}}}'):
            reply = self.app.post([{**EVENT, 'server_uuid': form}])
            self.assertEqual([{**EVENT, 'server_uuid': form, **DELIVERED}], reply.json['events'])
            self.assertEqual(client.PLACED, self.app.resolver.batches[-1][0].server_uuid)

    def test_tags_are_returned_unchanged(self) -> None:
        for tag in ('', 'a\x01\x1f\x7f\nb', '\U0001f600', '"\\/<>&\''):
            reply = self.app.post([{**EVENT, 'tag': tag}])
            self.assertEqual((200, tag), (reply.status, reply.json['events'][0]['tag']))

    def test_older_endpoint_ignores_unknown_members(self) -> None:
        path = '/v2/os-server-external-events'
        reply = self.app.post(
            {'events': [{**EVENT, 'extra': 1}], 'more': 2},
            {'OpenStack-API-Version': 'compute bogus'},
            path=path,
        )
        self.assertEqual((200, [{**EVENT, **DELIVERED}]), (reply.status, reply.json['events']))
        for bad in ({'extra': 1}, {'events': [{**EVENT, 'name': 'volume-extended', 'tag': 'v'}]}):
            self.assertEqual(400, self.app.post(bad, path=path).status)


class RefusedTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.app = client.Client()

    def assert_refused(self, reply: client.Reply, name: str, status: int, words: str = '') -> None:
        self.assertEqual((status, (name, status)), (reply.status, reply.fault))
        self.assertIn(words, reply.message)
        self.assertEqual('application/json; charset=UTF-8', reply.headers['content-type'])
        self.assertEqual([], self.app.resolver.batches)

    def test_invalid_bodies(self) -> None:
        good = json.dumps({'events': [EVENT]}).encode()
        for body, words in (
            (b'', 'the body is null'),
            (b'this is not json', 'line 1 column 1'),
            (good + b'x', 'Extra data'),
            (b'\xef\xbb\xbf' + good, 'BOM'),
            (good.decode().encode('utf-16'), 'not UTF-8 at byte 0'),
            (b'{"\xff": 1}', 'not UTF-8 at byte 2'),
            (b'\x1f\x8b\x08\x00', 'not UTF-8'),
            (good + b'\0', 'Extra data'),
            (b'NaN', 'the body is NaN'),
            (b'{"events": -Infinity}', 'events is -Infinity'),
            (b'{"events": ' + b'9' * 5000 + b'}', 'too many digits'),
            (b'[' * 100000, 'too deep'),
            (b'{"events": [' * 20000, 'too deep'),
            (b'null', 'the body is null'),
            (b'[]', 'the body is []'),
            (
                b'{"events": [{"name": "network-changed", "server_uuid": "%s", "tag": "\\ud800"}]}'
                % client.PLACED.encode(),
                'events[0].tag',
            ),
        ):
            for chunked in (False, True):
                self.assert_refused(
                    self.app.call('POST', client.PATH, body, chunked=chunked), 'badRequest', 400, words
                )

    def test_nesting_close_to_the_limit_of_the_parser(self) -> None:
        # NOTE: a document that the parser accepts can be too deep for the code that
        # reads it afterwards. The limit depends on the used part of the stack.
        for depth in range(800, 1000):
            body = b'{"events": ' + b'[' * depth + b']' * depth + b'}'
            self.assert_refused(self.app.call('POST', client.PATH, body), 'badRequest', 400)

    def test_incomplete_body(self) -> None:
        reply = self.app.call('POST', client.PATH, b'{', {'Content-Type': 'application/json'})
        self.assert_refused(reply, 'badRequest', 400)
        environ_length = {'Content-Length': '100'}
        reply = self.app.call('POST', client.PATH, None, environ_length)
        self.assert_refused(reply, 'badRequest', 400, 'shorter')

    def test_error_names_the_invalid_member(self) -> None:
        batch = [EVENT, EVENT, EVENT, {**EVENT, 'tag': 7}]
        self.assert_refused(self.app.post(batch), 'badRequest', 400, 'events[3].tag is 7')

    def test_body_that_is_too_large(self) -> None:
        limit = 2 * 1024 * 1024
        body = json.dumps({'events': [EVENT]}).encode()
        for size, status in ((limit, 200), (limit + 1, 413), (limit * 2, 413)):
            for chunked in (False, True):
                reply = self.app.call('POST', client.PATH, body.ljust(size), chunked=chunked)
                self.assertEqual((size, status), (size, reply.status))
                if status == 413:
                    self.assertEqual(('overLimit', 413), reply.fault)
                    self.assertIn(str(limit), reply.message)

    def test_too_many_events(self) -> None:
        app = client.Client(api__max_events=2)
        self.assertEqual(200, app.post([EVENT] * 2).status)
        reply = app.post([EVENT] * 3)
        self.assertEqual((413, ('overLimit', 413)), (reply.status, reply.fault))
        self.assertIn('at most 2', reply.message)

    def test_media_types(self) -> None:
        body = json.dumps({'events': [EVENT]}).encode()
        for media_type, status in (
            ('application/json', 200),
            ('application/json;charset=latin-1', 200),
            ('application/vnd.openstack.compute+json;version=2.1', 200),
            ('text/plain', 200),
            ('', 200),
            ('text/xml', 415),
            ('APPLICATION/JSON', 415),
            ('json', 415),
        ):
            reply = self.app.call('POST', client.PATH, body, {'Content-Type': media_type})
            self.assertEqual((media_type, status), (media_type, reply.status))
            if status == 415:
                self.assertEqual(('badMediaType', 415), reply.fault)
                self.assertEqual('compute 2.1', reply.headers['openstack-api-version'])

    def test_project_of_another_client(self) -> None:
        for project in ('0123456789abcdef0123456789abcdef', '01234567-89ab-cdef-0123-456789abcdef'):
            path = f'/v2.1/{project}/os-server-external-events'
            self.assert_refused(self.app.post([EVENT], path=path), 'badRequest', 400, project)

    def test_order_of_the_checks(self) -> None:
        reader = client.Client(authenticate=client.identity('reader'))
        self.assertEqual(406, reader.call('POST', client.PATH, b'{', {VERSION: 'compute 2.999'}).status)
        self.assertEqual(415, reader.call('POST', client.PATH, b'{', {'Content-Type': 'text/xml'}).status)
        path = '/v2.1/0123456789abcdef0123456789abcdef/os-server-external-events'
        self.assertEqual(400, reader.call('POST', path, b'{').status)
        for body in (b'{', b'{}', json.dumps({'events': [EVENT]}).encode()):
            reply = reader.call('POST', client.PATH, body)
            self.assertEqual((403, ('forbidden', 403)), (reply.status, reply.fault))

    def test_body_of_an_unauthorized_client_is_not_parsed(self) -> None:
        parse = self.useFixture(fixtures.MockPatch(f'{bodies.__name__}.parse', autospec=True)).mock
        reader = client.Client(authenticate=client.identity('reader'))
        self.assertEqual(403, reader.post([EVENT] * 1000).status)
        self.assertFalse(parse.called)


class Broken:
    """A resolver that raises an unexpected exception."""

    bounded = True

    def route(self, *_args: Any, **_kwargs: Any) -> list[events.Outcome]:
        raise ZeroDivisionError


class TroubleTest(base.TestCase):
    def test_exception_during_routing_is_a_code_for_each_event(self) -> None:
        reply = client.Client(Broken()).post([EVENT, EVENT])
        self.assertEqual(207, reply.status)
        self.assertEqual([{**EVENT, 'status': 'failed', 'code': 503}] * 2, reply.json['events'])
        self.assertIn('ZeroDivisionError', self.logs.output)

    def test_other_exception_is_a_500_with_an_error_document(self) -> None:
        def broken(inner: object) -> client.auth.WSGIApp:
            def fail(environ: object, start_response: object) -> list[bytes]:
                raise ZeroDivisionError

            return fail

        reply = client.Client(authenticate=broken).post([EVENT])
        self.assertEqual((500, ('computeFault', 500)), (reply.status, reply.fault))
        self.assertIn('x-openstack-request-id', reply.headers)
        self.assertNotIn('ZeroDivisionError', reply.message)
        self.assertIn('ZeroDivisionError', self.logs.output)


class LogTest(base.TestCase):
    def test_one_log_message_for_a_batch(self) -> None:
        app = client.Client()
        app.post([EVENT, EVENT, {**EVENT, 'server_uuid': client.UNKNOWN}])
        lines = [line for line in self.logs.output.splitlines() if ' INFO ' in line]
        self.assertEqual(1, len(lines), lines)
        self.assertIn('batch of 3 events: 2 acknowledged, 0 held, 1 x 404; ', lines[0])

    def test_maximum_length_of_a_tag_is_configurable(self) -> None:
        app = client.Client(api__max_tag_length=36)
        self.assertEqual(200, app.post([{**EVENT, 'tag': 'x' * 36}]).status)
        reply = app.post([EVENT, {**EVENT, 'tag': 'x' * 37}])
        self.assertEqual(('badRequest', 400), reply.fault)
        self.assertIn('events[1].tag', reply.message)
        self.assertIn('37 characters; at most 36', reply.message)

    def test_control_characters_of_a_tag_are_not_logged(self) -> None:
        client.Client().post([{**EVENT, 'tag': 'a\n2026-01-01 CRITICAL forged\x1b[2J\u2028'}])
        self.assertIn('forged', self.logs.output)
        self.assertFalse(
            [line for line in self.logs.output.split('\n') if line.startswith('2026-01-01 CRIT')]
        )
        self.assertNotIn('\x1b', self.logs.output)
        self.assertNotIn('\u2028', self.logs.output)


JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=10,
)
NEARLY = strategies.fixed_dictionaries(
    {},
    optional={
        'name': strategies.sampled_from(list(events.EVENT_TYPES)) | JSON,
        'server_uuid': strategies.sampled_from([client.PLACED, client.UNKNOWN])
        | strategies.uuids().map(str)
        | JSON,
        'tag': strategies.text(strategies.characters()) | JSON,
        'status': strategies.sampled_from(events.STATUSES) | JSON,
        'extra': JSON,
    },
)
DOCUMENT = JSON | strategies.fixed_dictionaries({'events': strategies.lists(NEARLY, max_size=4) | JSON})
HEADER = strategies.text(strategies.characters(min_codepoint=32, max_codepoint=255), max_size=40)
HEADERS = strategies.fixed_dictionaries(
    {},
    optional={
        'OpenStack-API-Version': HEADER | HEADER.map('compute {}'.format),
        'X-OpenStack-Nova-API-Version': HEADER,
        'X-OpenStack-Request-ID': HEADER,
        'Content-Type': HEADER,
        # NOTE: a server and the validator refuse a length that is not a number.
        'Content-Length': strategies.integers(min_value=0).map(str),
        'Host': HEADER,
        'Accept': HEADER,
        'X-Forwarded-For': HEADER,
        'Range': HEADER,
        'Cookie': HEADER,
    },
)
FUZZ = generated.examples(40)


class FuzzTest(base.TestCase):
    """For any input, there is no 5xx response, and every error has an error document."""

    def setUp(self) -> None:
        super().setUp()
        self.app = client.Client()

    def judge(self, reply: client.Reply) -> None:
        self.assertLess(reply.status, 500)
        if reply.status >= 400:
            self.assertEqual(reply.status, reply.fault[1])

    def test_documents(self) -> None:
        @FUZZ
        @hypothesis.given(DOCUMENT, strategies.sampled_from([client.PATH, '/v2/os-server-external-events']))
        def check(document: Any, path: str) -> None:
            self.judge(self.app.post(document, LATEST, path=path))

        check()

    def test_bytes(self) -> None:
        @FUZZ
        @hypothesis.given(strategies.binary(max_size=200), strategies.booleans())
        def check(body: bytes, chunked: bool) -> None:
            self.judge(self.app.call('POST', client.PATH, body, chunked=chunked))

        check()

    def test_headers(self) -> None:
        body = json.dumps({'events': [EVENT]}).encode()

        @FUZZ
        @hypothesis.given(HEADERS)
        def check(headers: dict[str, str]) -> None:
            self.judge(
                self.app.call('POST', client.PATH, None if 'Content-Length' in headers else body, headers)
            )

        check()

    def test_paths(self) -> None:
        @FUZZ
        @hypothesis.given(HEADER, strategies.sampled_from(['GET', 'POST', 'HEAD', 'OPTIONS', 'X']))
        def check(path: str, method: str) -> None:
            for prefix in ('/', '/v2.1/', '/v2/'):
                reply = self.app.call(method, f'{prefix}{path.partition("?")[0]}')
                self.assertLess(reply.status, 500)

        check()
