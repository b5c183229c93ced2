"""The media types of requests and responses."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies

from external_events_router.api import faults
from external_events_router.api import media
from tests import base
from tests import generated
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}


class CheckTest(base.TestCase):
    def test_json_media_types(self) -> None:
        for name in (*media.TAKEN, 'application/json; charset=latin-1', 'application/json;', 'text/plain;x'):
            media.check({'CONTENT_TYPE': name})
        media.check({})

    def test_other_media_types(self) -> None:
        for name in (
            'text/xml',
            'APPLICATION/JSON',
            'json',
            '*/*',
            'application/json ;x',
            'multipart/form-data',
        ):
            fault = self.assertRaises(faults.Fault, media.check, {'CONTENT_TYPE': name})
            self.assertEqual(415, fault.status)
            self.assertIn(repr(name.split(';')[0]), fault.message)
            self.assertIn('application/json', fault.message)

    def test_message_is_short(self) -> None:
        fault = self.assertRaises(faults.Fault, media.check, {'CONTENT_TYPE': 'a' * 10**5})
        self.assertLess(len(fault.message), 250)


class WantedTest(base.TestCase):
    def test_names(self) -> None:
        for accept, wanted in (
            ('', media.JSON),
            ('*/*', media.JSON),
            ('text/html', media.JSON),
            ('application/json', media.JSON),
            (media.VENDOR, media.VENDOR),
            (f'{media.VENDOR};version=2.1', media.VENDOR),
            (f'{media.VENDOR}, application/json', media.JSON),
            (f'application/json;q=0.5, {media.VENDOR}', media.VENDOR),
            (f'{media.VENDOR};q=0.5, */*', media.JSON),
            (f'{media.VENDOR}, */*', media.VENDOR),
            (f'application/*, {media.VENDOR};q=x', media.JSON),
        ):
            self.assertEqual((accept, wanted), (accept, media.wanted({'HTTP_ACCEPT': accept})))

    def test_response_has_an_accepted_media_type(self) -> None:
        app = client.Client()
        headers = {'Accept': media.VENDOR}
        for reply in (app.post([EVENT], headers), app.call('GET', '/', headers=headers)):
            self.assertEqual((200, media.VENDOR), (reply.status, reply.headers['content-type']))
        self.assertEqual('application/json; charset=UTF-8', app.post([], headers).headers['content-type'])

    def test_any_text(self) -> None:
        @generated.examples()
        @hypothesis.given(strategies.text('aq*/;=,.0 "json') | strategies.text())
        def check(text: str) -> None:
            environ = {'HTTP_ACCEPT': text, 'CONTENT_TYPE': text}
            self.assertIn(media.wanted(environ), media.OFFERED)
            media.version(environ)

        check()


class VersionTest(base.TestCase):
    def test_version_of_the_body_has_precedence_over_the_accepted_version(self) -> None:
        for content_type, accept, version in (
            ('', '', None),
            ('application/json', 'application/json', None),
            ('application/json;version=2.1', 'application/json;version=2', '2.1'),
            ('application/json; charset=utf-8; version="2.1"', '', '2.1'),
            ('', 'application/json;version=2.1', '2.1'),
            ('', 'text/html;version=2.1', None),
            ('', f'{media.VENDOR};q=0.1;version=2.1, application/json;version=2', '2'),
        ):
            environ = {'CONTENT_TYPE': content_type, 'HTTP_ACCEPT': accept}
            self.assertEqual((environ, version), (environ, media.version(environ)))
