"""``doctor``: formats, selection of checks, exit status."""

import json

from tests.programs import test_manage


class DoctorTest(test_manage.ManageTestCase):
    def setUp(self):
        super().setUp()
        self.config.write_text(
            '[DEFAULT]\ntransport_url = fake://\n[api]\nauth_strategy = noauth\n'
            f'[database]\nconnection = sqlite:///{self.folder}/router.db\n'
        )
        self.config.chmod(0o640)

    def test_statuses(self):
        failed, _upgraded, good, warning = self.manage(
            'doctor --check database-schema -f json',
            'db upgrade',
            'doctor --check database-schema -f json',
            'doctor -f json',
        )
        self.assertEqual([2, 0, 1], [failed[0], good[0], warning[0]], (failed, good, warning))
        rows = json.loads(failed[1])
        self.assertEqual([('database-login', 'OK'), ('database-schema', 'FAIL')], self.of(rows))
        self.assertEqual('external-events-manage db upgrade', rows[1]['remedy'])
        rows = json.loads(warning[1])
        self.assertEqual({'status', 'check', 'evidence', 'remedy'}, set(rows[0]))
        self.assertIn(('host-map', 'WARN'), self.of(rows))
        self.assertIn(('canary', 'OK'), self.of(rows))

    def of(self, rows):
        return [(row['check'], row['status']) for row in rows]

    def test_wrong_selections(self):
        unknown, foreign = self.manage(
            'doctor --check nothing', 'doctor --service agent --check database-login'
        )
        self.assertEqual(2, unknown[0])
        self.assertIn('database-login: this check does not apply to --service agent', self.refused(foreign))

    def test_invalid_configuration_is_a_failure(self):
        self.config.write_text('[api]\nworkers = 0\n')
        doctor, other = self.manage('doctor', 'db version')
        self.assertEqual((2, ''), tuple(doctor[:2]))
        self.assertIn('[api] workers', doctor[2])
        self.assertEqual(1, other[0])
