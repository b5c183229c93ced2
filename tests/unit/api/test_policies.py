"""The permission to send events."""

from __future__ import annotations

import os
import pathlib

import fixtures
from oslo_config import cfg

from external_events_router import context
from external_events_router import exceptions
from external_events_router.api import policies
from tests import base
from tests.unit.api import client

EVENT = {'name': 'network-changed', 'server_uuid': client.PLACED}

#: Contents of policy files that are refused, and a part of the error.
UNUSABLE = {
    b'- a\n- b\n': 'is not a mapping of rule names to rules, but a list',
    b'a text': 'but a str',
    b'"a": "\xff"': 'is not UTF-8 at byte 6',
    b'a: [': 'is not YAML',
    f'"{policies.CREATE}": 1'.encode(): 'is not a string',
    f'"{policies.CREATE}": []'.encode(): 'is not a string',
    f'"{policies.CREATE}": null'.encode(): 'is not a string',
    f'"{policies.CREATE}": ""'.encode(): 'is empty, which would allow every token',
    f'"{policies.CREATE}": "  "'.encode(): 'is empty, which would allow every token',
    f'"{policies.CREATE}": "role:a and ("'.encode(): 'cannot be parsed',
    b'1: "role:a"': 'the rule name 1 is not a string',
}


class PolicyTest(base.TestCase):
    def status(self, *roles: str, **overrides: str) -> int:
        return client.Client(authenticate=client.identity(*roles), **overrides).post([EVENT]).status

    def test_roles(self) -> None:
        for role, status in (('service', 200), ('admin', 200), ('member', 403), ('reader', 403), ('', 403)):
            self.assertEqual((role, status), (role, self.status(role)))

    def test_refusal_names_the_rule_and_the_log_the_roles(self) -> None:
        for path in (client.PATH, '/v2/os-server-external-events'):
            reply = client.Client(authenticate=client.identity('member', 'reader')).post([EVENT], path=path)
            self.assertEqual(('forbidden', 403), reply.fault)
            self.assertIn(policies.CREATE, reply.message)
            self.assertIn("'a-user' with roles ['member', 'reader']", self.logs.output)

    def test_policy_file_of_the_operator_is_used(self) -> None:
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'policy.yaml'
        file.write_text(f'"{policies.CREATE}": "role:sender"\n')
        for role, status in (('sender', 200), ('service', 403)):
            self.assertEqual((role, status), (role, self.status(role, oslo_policy__policy_file=str(file))))

    def test_policy_file_is_checked_at_intervals(self) -> None:
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'policy.yaml'
        file.write_text(f'"{policies.CREATE}": "role:sender"\n')
        app = client.Client(authenticate=client.identity('sender'), oslo_policy__policy_file=str(file))
        self.patch(policies, 'LOOK_INTERVAL', 3600.0)
        self.assertEqual(200, app.post([EVENT]).status)
        file.unlink()
        self.assertEqual(200, app.post([EVENT]).status)

    def test_allowed_client_is_cached_until_the_next_check(self) -> None:
        self.patch(policies, 'LOOK_INTERVAL', 3600.0)
        enforcer = policies.make_enforcer(client.make_conf())
        asked: list[object] = []
        self.patch(
            enforcer, 'authorize', lambda rule, target, ctxt: asked.append(ctxt) or 'service' in ctxt.roles
        )
        neutron = {'user_id': 'neutron', 'project_id': 'service', 'roles': ['service']}
        for changed, allowed, times in (
            ({}, True, 1),
            ({}, True, 1),
            ({'project_id': 'other'}, True, 2),
            ({'roles': ['member']}, False, 3),
            ({'roles': ['member']}, False, 4),
            ({'roles': [], 'service_roles': ['service']}, False, 5),
            ({'system_scope': 'all'}, True, 6),
            ({}, True, 6),
        ):
            ctxt = context.RequestContext(**{**neutron, **changed})
            self.assertEqual((changed, allowed, times), (changed, enforcer.allows(ctxt), len(asked)))
        enforcer.load_rules(force_reload=True)
        enforcer.allows(context.RequestContext(**neutron))
        self.assertEqual(7, len(asked))

    def test_change_of_the_policy_file_applies_to_cached_clients(self) -> None:
        self.patch(policies, 'LOOK_INTERVAL', 0.0)
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'policy.yaml'
        file.write_text(f'"{policies.CREATE}": "role:sender"\n')
        app = client.Client(authenticate=client.identity('sender'), oslo_policy__policy_file=str(file))
        self.assertEqual(200, app.post([EVENT]).status)
        file.write_text(f'"{policies.CREATE}": "role:unused"\n')
        os.utime(file, (1, 2_000_000_000))
        self.assertEqual(403, app.post([EVENT]).status)

    def test_malformed_file_changes_nothing(self) -> None:
        self.patch(policies, 'LOOK_INTERVAL', 0.0)
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'policy.yaml'
        file.write_text(f'"{policies.CREATE}": "role:sender"\n')
        options = {'oslo_policy__policy_file': str(file)}
        app = client.Client(authenticate=client.identity('sender'), **options)
        self.assertEqual(200, app.post([EVENT]).status)
        # NOTE: a change is detected by the modification time of the file.
        file.write_text(f'"{policies.CREATE}": "role:unused"\n: [')
        os.utime(file, (1, 2_000_000_000))
        for _ in range(2):
            self.assertEqual(200, app.post([EVENT]).status)
        self.assertIn('[oslo_policy] policy_file: ', self.logs.output)
        problem = self.assertRaises(
            exceptions.ConfigurationError, policies.make_enforcer, client.make_conf(**options)
        )
        self.assertIn('[oslo_policy] policy_file', str(problem))
        file.unlink()
        self.assertEqual(403, app.post([EVENT]).status)

    def test_unusable_files(self) -> None:
        self.patch(policies, 'LOOK_INTERVAL', 0.0)
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'policy.yaml'
        options = {'oslo_policy__policy_file': str(file)}
        for number, (content, expected) in enumerate(UNUSABLE.items()):
            file.write_text(f'"{policies.CREATE}": "role:sender"\n')
            os.utime(file, (1, 2_000_000_000 + 2 * number))
            app = client.Client(authenticate=client.identity('sender'), **options)
            self.assertEqual(200, app.post([EVENT]).status)
            file.write_bytes(content)
            os.utime(file, (1, 2_000_000_001 + 2 * number))
            refused = self.assertRaises(
                exceptions.ConfigurationError, policies.make_enforcer, client.make_conf(**options)
            )
            self.assertIn(f'[oslo_policy] policy_file: {file}', str(refused))
            self.assertIn(expected, str(refused))
            before = self.logs.output
            for _ in range(3):
                self.assertEqual((content, 200), (content, app.post([EVENT]).status))
            errors = [line for line in self.logs.output[len(before) :].splitlines() if ' ERROR ' in line]
            self.assertEqual(1, len(errors), errors)
            self.assertIn(expected, errors[0])
        self.assertNotIn('Traceback', self.logs.output)

    def test_folder_instead_of_the_file(self) -> None:
        folder = self.useFixture(fixtures.TempDir()).path
        conf = client.make_conf(oslo_policy__policy_file=folder)
        refused = self.assertRaises(exceptions.ConfigurationError, policies.make_enforcer, conf)
        self.assertIn(f'{folder} cannot be read: Is a directory', str(refused))

    def test_pipe_or_device_instead_of_the_file(self) -> None:
        pipe = f'{self.useFixture(fixtures.TempDir()).path}/policy.yaml'
        os.mkfifo(pipe)
        for path in (pipe, '/dev/zero'):
            conf = client.make_conf(oslo_policy__policy_file=path)
            refused = self.assertRaises(exceptions.ConfigurationError, policies.make_enforcer, conf)
            self.assertIn(f'{path} is not a regular file', str(refused))
        policies.make_enforcer(client.make_conf(oslo_policy__policy_file='/dev/null'))

    def test_files_in_policy_folders_are_checked_too(self) -> None:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (folder / 'one.yaml').write_text('a_rule: 7')
        conf = client.make_conf(oslo_policy__policy_dirs=str(folder))
        refused = self.assertRaises(exceptions.ConfigurationError, policies.make_enforcer, conf)
        self.assertIn('one.yaml: the rule', str(refused))

    def test_rule_that_allows_every_token_must_be_explicit(self) -> None:
        file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'policy.yaml'
        for rule, status in (('@', 200), ('!', 403)):
            file.write_text(f'"{policies.CREATE}": "{rule}"\n')
            self.assertEqual(status, self.status('member', oslo_policy__policy_file=str(file)))

    def test_default_is_the_rule_of_nova(self) -> None:
        (rule,) = policies.list_rules()
        self.assertEqual('os_compute_api:os-server-external-events:create', rule.name)
        self.assertEqual('role:service or role:admin', rule.check_str)

    def test_tools_of_oslo_policy_get_an_enforcer(self) -> None:
        argv = [
            'oslopolicy-list-redundant',
            '--namespace',
            'external_events_router',
            '--config-dir',
            '/nonexistent',
        ]
        self.addCleanup(cfg.CONF.clear)
        self.useFixture(fixtures.MonkeyPatch('sys.argv', argv[:3]))
        self.assertIn(policies.CREATE, policies.get_enforcer().registered_rules)
