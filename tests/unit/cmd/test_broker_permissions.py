"""Permissions on the broker; the command is in tests/programs, a real RabbitMQ in tests/integration."""

import re

from external_events_router.cmd.manage import permissions
from tests import base

NAMES = permissions.Names('events', 'compute')


class PermissionsTest(base.TestCase):
    def test_agent_has_access_to_its_own_host_only(self):
        granted = permissions.of_agent(NAMES, ['host.a'])
        for pattern in (granted.configure, granted.read, granted.write):
            self.assertTrue(re.search(pattern, 'compute.host.a'))
            for other in ('compute.host-a', 'compute.host.ab', 'xcompute.host.a', 'compute', 'amq.default'):
                self.assertIsNone(re.search(pattern, other), other)
        for pattern in (granted.configure, granted.write):
            self.assertIsNone(re.search(pattern, 'events'))
        write, read = granted.topics['events']
        self.assertIsNone(re.search(write, 'external-events-resolver'))
        self.assertIsNone(re.search(read, '#'))
        self.assertTrue(re.search(read, 'compute.host.a'))

    def test_only_resolvers_publish_to_any_queue(self):
        for granted in (
            permissions.of_agent(NAMES, ['a']),
            permissions.of_agent(permissions.Names('events', 'compute', direct=False), ['a']),
            permissions.of_caller(NAMES),
        ):
            self.assertIsNone(re.search(granted.write, 'amq.default'))
        self.assertTrue(re.search(permissions.of_resolver(NAMES).write, 'amq.default'))

    def test_special_characters_of_a_name_are_escaped(self):
        for name in ('a.b', 'a|b', '(', '[x', 'a+$', 'host:1'):
            self.assertEqual([name], re.findall(permissions.literal(name), name))
            self.assertTrue(re.fullmatch(permissions.literal(name), name))
        self.assertIsNone(re.fullmatch(permissions.literal('a.b'), 'axb'))
