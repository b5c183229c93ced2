"""``broker permissions``; on a real RabbitMQ in tests/integration/test_permissions.py."""

import shlex

from tests.programs import test_manage


class CommandTest(test_manage.ManageTestCase):
    def setUp(self):
        super().setUp()
        self.config.write_text(
            '[DEFAULT]\ntransport_url = rabbit://u:s3cret@broker:5672/my host\n'
            "control_exchange = it's\n[compute]\ntopic = a.topic\n[api]\nresolver = rpc\n"
        )

    def test_commands_are_quoted_for_a_shell(self):
        agent, api, resolver = self.manage(
            'broker permissions --role agent --host a --host b --user agent;1',
            'broker permissions --role api',
            'broker permissions --role resolver',
        )
        commands = []
        for status, out, err in (agent, api, resolver):
            self.assertEqual((0, ''), (status, err))
            self.assertNotIn('s3cret', out)
            lines = [shlex.split(line) for line in out.splitlines() if not line.startswith('#')]
            self.assertEqual({'rabbitmqctl'}, {line[0] for line in lines})
            commands.append([line[1:] for line in lines])
        self.assertEqual(['add_user', 'agent;1'], commands[0][0])
        self.assertEqual(['set_permissions', '-p', 'my host', 'agent;1'], commands[0][1][:4])
        self.assertIn(r'|a\.topic\.a|a\.topic\.b)$', commands[0][1][5])
        self.assertIn(r'^(it\'s|a\.topic\.a|', commands[0][1][6])
        self.assertEqual(['add_user', 'external-events-api'], commands[1][0])
        self.assertNotIn(r'amq\.default', commands[1][1][5])
        self.assertIn(r'amq\.default', commands[2][1][5])

    def test_refusals(self):
        for answer in self.manage(
            'broker permissions --role agent', 'broker permissions --role resolver --host a'
        ):
            self.assertIn('--host is required for the role agent', self.refused(answer))
        self.config.write_text('[DEFAULT]\ntransport_url = fake://\n')
        (fake,) = self.manage('broker permissions --role resolver')
        self.assertIn('transport_url', self.refused(fake))

    def test_invalid_host_names(self):
        for name in ('#', '""', '*.x', 'a' * 250):
            ((status, out, err),) = self.manage(f'broker permissions --role agent --host {name}')
            self.assertEqual((1, ''), (status, out))
            self.assertIn('malformed host name', err)
