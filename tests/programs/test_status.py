"""``external-events-status upgrade check`` as a program."""

import pathlib

import fixtures

from tests import base
from tests import interpreter

STATUS = 'import sys; from external_events_router.cmd import status; sys.exit(status.main())'
MANAGE = 'import sys; from external_events_router.cmd import manage; sys.exit(manage.main())'

#: Seconds; an interpreter that imports the package takes 40 s on a busy machine.
PATIENCE = 150


class StatusTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def test_before_and_after_the_upgrade_of_the_schema(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        config = folder / 'router.conf'
        policy = folder / 'policy.json'
        config.write_text(
            f'[database]\nconnection = sqlite:///{folder}/router.db\n[oslo_policy]\npolicy_file = {policy}\n'
        )
        files = ('--config-file', config)
        before = interpreter.run(STATUS, *files, 'upgrade', 'check', timeout=PATIENCE)
        self.assertEqual(2, before.returncode, before.stderr)
        self.assertIn('db upgrade', ''.join(before.stdout.split('\n')).replace('| | ', ''))
        interpreter.run(MANAGE, *files, 'db', 'upgrade', check=True, timeout=PATIENCE)
        after = interpreter.run(STATUS, *files, 'upgrade', 'check', timeout=PATIENCE)
        self.assertEqual(0, after.returncode, after.stdout + after.stderr)
        policy.write_text('{"os_compute_api:os-server-external-events:create": "role:admin"}\n')
        with_json = interpreter.run(STATUS, *files, 'upgrade', 'check', timeout=PATIENCE)
        self.assertEqual(2, with_json.returncode, with_json.stdout)
        self.assertIn('JSON-formatted', with_json.stdout)
