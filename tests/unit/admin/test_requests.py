"""Parameters, entity tags, confirmations, and clients without authentication."""

from __future__ import annotations

from external_events_router import exceptions
from external_events_router.admin import authentication
from external_events_router.admin import confirmations
from external_events_router.admin import etags
from external_events_router.admin import parameters
from external_events_router.api import faults
from external_events_router.operations import held
from external_events_router.resolver.hold import base as hold_base
from tests import base
from tests.unit.api import client

NOW = 1_790_000_000.0
KEY = b'k' * 32


class ParametersTest(base.TestCase):
    def fault(self, query: str) -> str:
        declared = (*parameters.EVENT_FILTERS, parameters.SINCE, parameters.limit(50))
        return str(self.assertRaises(faults.Fault, parameters.parse, query, declared).message)

    def test_values_and_defaults(self) -> None:
        declared = (*parameters.EVENT_FILTERS, parameters.SINCE, parameters.limit(50))
        values, given = parameters.parse(
            'code=200&code=404&name=network-changed&limit=7&port=a%20b', declared
        )
        self.assertEqual(([200, 404], 7, 'a b'), (values['code'], values['limit'], values['port']))
        self.assertEqual(('code', '200'), given[0])
        self.assertEqual(NOW - 3600, values['since'].seconds(NOW))
        chosen = parameters.event_filter(values)
        self.assertEqual((frozenset({200, 404}), None), (chosen.code, chosen.state))
        self.assertEqual(50, parameters.parse('', declared)[0]['limit'])

    def test_uuid_in_any_usual_form(self) -> None:
        values, _ = parameters.parse(
            'server=%7B0000000A00004000800000000000000A%7D', parameters.EVENT_FILTERS
        )
        self.assertEqual('0000000a-0000-4000-8000-00000000000a', values['server'])

    def test_invalid_values_name_the_parameter(self) -> None:
        for query, message in (
            ('limit=51', 'limit'),
            ('limit=\u0661', 'limit'),
            ('since=2026-02-30T00:00:00Z', 'since'),
            ('host=a*b', 'host'),
            ('code=999', 'code'),
            ('name=nothing', 'name'),
            ('x=1', 'Unknown parameter'),
            ('port=' + 'x' * 256, 'port'),
            ('port=%0A', 'control characters'),
            ('port=%E2%80%AE', 'control characters'),
        ):
            self.assertIn(message, self.fault(query), query)


class EntityTagsTest(base.TestCase):
    def test_same_document_same_tag(self) -> None:
        document = {'server': 'a', 'hosts': ['b']}
        tag = etags.of(document)
        self.assertEqual(tag, etags.of(dict(reversed(document.items()))))
        self.assertTrue(etags.check(f'"other", {tag}', document))
        self.assertFalse(etags.check('*', document))
        self.assertFalse(etags.check(None, document))

    def test_other_documents_and_malformed_headers(self) -> None:
        for header, status in (('"other"', 412), ('other', 400), ('', 400), ('"a" "b"', 400)):
            fault = self.assertRaises(faults.Fault, etags.check, header, {'a': 1})
            self.assertEqual(status, fault.status, header)


class ConfirmationsTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.confirmations = confirmations.Confirmations(lambda: KEY, lifetime=60.0)
        self.chosen = held.Filter(host='host-a', state=hold_base.State.HELD)
        self.preview = held.Preview(7, [('held', 'network-changed', 7)], 11, 0)
        self.text, self.expires = self.confirmations.make(
            'held:drop', 'alice', self.chosen, self.preview, now=NOW
        )

    def test_valid(self) -> None:
        found = self.confirmations.check(self.text, 'held:drop', 'alice', self.chosen, now=NOW + 59)
        self.assertEqual((7, 11, 0), (found.number, found.last_held, found.last_ended))
        self.assertEqual(NOW + 60, self.expires)
        self.assertLess(len(self.text), confirmations.MAX_LENGTH)

    def refused(self, text: str, action: str, user: str | None, chosen: held.Filter, now: float = NOW) -> str:
        return str(
            self.assertRaises(
                exceptions.InvalidArgument,
                self.confirmations.check,
                text,
                action,
                user,
                chosen,
                now=now,
            )
        )

    def test_bound_to_user_action_filter_and_time(self) -> None:
        self.assertIn('expired', self.refused(self.text, 'held:drop', 'alice', self.chosen, NOW + 60))
        for arguments in (
            ('held:retry', 'alice', self.chosen),
            ('held:drop', 'bob', self.chosen),
            ('held:drop', None, self.chosen),
            ('held:drop', 'alice', held.Filter(host='host-a')),
            ('held:drop', 'alice', held.Filter()),
        ):
            self.assertIn('new preview', self.refused(self.text, *arguments))

    def test_changed_text(self) -> None:
        for position in range(len(self.text)):
            other = 'A' if self.text[position] != 'A' else 'B'
            text = self.text[:position] + other + self.text[position + 1 :]
            self.refused(text, 'held:drop', 'alice', self.chosen)
        for text in ('', '=', 'x' * 1000, '\u00e9', self.text[:-4]):
            self.refused(text, 'held:drop', 'alice', self.chosen)

    def test_other_key(self) -> None:
        other = confirmations.Confirmations(lambda: b'o' * 32, lifetime=60.0)
        self.assertRaises(
            exceptions.InvalidArgument, other.check, self.text, 'held:drop', 'alice', self.chosen, now=NOW
        )


class NoAuthTest(base.TestCase):
    def answer(self, **environ: str) -> tuple[str, dict[str, str]]:
        seen: dict[str, str] = {}
        statuses: list[str] = []

        def app(env, start_response):  # type: ignore[no-untyped-def]
            seen.update(env)
            start_response('200 OK', [])
            return []

        values = {'REMOTE_ADDR': '127.0.0.1', 'HTTP_HOST': 'localhost:8791', **environ}
        authentication.noauth(app)(values, lambda status, *_: statuses.append(status))
        return statuses[0][:3], seen

    def test_clients_on_this_machine_are_administrators(self) -> None:
        for host in ('localhost', '127.0.0.1:8791', '[::1]:8791', '[::1]'):
            status, environ = self.answer(HTTP_HOST=host, HTTP_X_ROLES='none', HTTP_X_USER_ID='mallory')
            self.assertEqual(
                ('200', 'admin,reader', 'noauth'),
                (status, environ['HTTP_X_ROLES'], environ['HTTP_X_USER_ID']),
            )

    def test_other_clients_are_refused(self) -> None:
        for environ in (
            {'REMOTE_ADDR': '192.0.2.1'},
            {'HTTP_HOST': 'attacker.example:8791'},
            {'HTTP_X_FORWARDED_FOR': '192.0.2.1'},
            {'HTTP_FORWARDED': 'for=192.0.2.1'},
        ):
            self.assertEqual(('403', {}), self.answer(**environ))

    def test_service_does_not_start_on_other_addresses(self) -> None:
        conf = client.make_conf(admin__auth_strategy='noauth', admin__bind_host='0.0.0.0')  # noqa: S104
        problem = self.assertRaises(exceptions.ConfigurationError, authentication.from_conf, conf)
        self.assertIn('not a loopback address', str(problem))
        conf = client.make_conf(admin__auth_strategy='noauth')
        self.assertIs(authentication.noauth, authentication.from_conf(conf))
