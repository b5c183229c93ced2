"""The problems of a host in ``external-events-manage host``."""

from external_events_router.operations import hosts
from external_events_router.resolver import host_overview
from tests import base


class ProblemsTest(base.TestCase):
    def host(self, **changes):
        values = {'servers': 1, 'reported_at': 1.0, 'silent_for': 10.0, 'breakers': 0, 'held': 0, **changes}
        return host_overview.Host('compute-1', **values)

    def test_problems(self):
        for host, queue, longest, expected in (
            (self.host(), '1 consumer', 180.0, []),
            (self.host(silent_for=181.0), '1 consumer', 180.0, ['no report for 181 s']),
            (self.host(silent_for=None), 'no queue', 180.0, ['never reported', 'no queue']),
            (self.host(silent_for=None), 'unknown', None, []),
            (
                self.host(breakers=2, held=3),
                'no consumer',
                180.0,
                ['no consumer', 'does not acknowledge', 'held events'],
            ),
        ):
            self.assertEqual(expected, hosts.problems(host, queue, longest_silence=longest))
