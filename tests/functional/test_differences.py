"""Differences from Nova: each difference is on the page and has a test, and there are no others."""

from __future__ import annotations

import pathlib
import re

from tests import base
from tests.conformance import cases
from tests.functional import fixtures
from tests.functional import test_conformance

PAGE = pathlib.Path(__file__).parents[2] / 'doc/source/user/differences-from-nova.rst'
REQUEST_ID = 'req-0f6f2c9a-5b1e-4d47-9d57-0f3c1b8d2e11'
EVENT = fixtures.event(cases.IDS['placed'])

DIFFERENCES = {difference['id']: difference for difference in cases.read('differences.yaml')}


class ListTest(base.TestCase):
    """The list, the page and the tests are of the same differences."""

    def test_the_page_has_them_in_order(self):
        labels = re.findall(r'^\.\. _differs-([a-z-]+):$', PAGE.read_text(), re.MULTILINE)
        self.assertEqual(list(DIFFERENCES), labels)

    def test_each_has_a_test(self):
        for name, difference in DIFFERENCES.items():
            self.assertTrue(difference['nova'] and difference['here'], name)
            test = f'test_{name.replace("-", "_")}'
            self.assertIn(test, dir(DifferencesTest))
            self.assertEqual('cases' in difference, test in SHOWN_BY_CASES, name)
            for case in difference.get('cases', ()):
                self.assertIn('status', case['nova'], case['id'])


class DifferencesTest(base.TestCase):
    """One test per difference; the differences that conformance cases show are added below."""

    def router(self, **overrides):
        return self.useFixture(test_conformance.Router(**{'api__none_found_status': 207, **overrides}))

    def judge(self, difference):
        router = self.router(**difference.get('options', {}))
        router.place(cases.IDS['deleted'], 'host-a')
        router.host_map.forget(cases.IDS['deleted'])
        found = [
            problem
            for entry in difference['cases']
            for case in cases.expand(entry, test_conformance.BASE)
            for problem in cases.problems(case, router.send(case.request))
        ]
        self.assertEqual([], found, '\n'.join(found))

    def test_true_codes(self):
        router = self.router()
        router.handled.actions[cases.IDS['placed']] = fixtures.refused
        entry = {
            'id': 'refused beside delivered',
            'request': {'events': [EVENT, fixtures.event(cases.IDS['elsewhere'])]},
            'answer': {'status': 207, 'codes': [500, 200]},
        }
        (case,) = cases.expand(entry, test_conformance.BASE)
        self.assertEqual([], cases.problems(case, router.send(case.request)))

    def test_sent_again(self):
        router = self.router()
        entry = {
            'id': 'the same batch under the same request id',
            'request': {'headers': [['X-OpenStack-Request-ID', REQUEST_ID]], 'events': [EVENT]},
            'answer': {'status': 200, 'codes': [200]},
        }
        (case,) = cases.expand(entry, test_conformance.BASE)
        for _ in range(3):
            self.assertEqual([], cases.problems(case, router.send(case.request)))
        self.assertEqual(1, len(router.handled.events))


def _shown_by_cases(difference):
    def test(self):
        self.judge(difference)

    return test


SHOWN_BY_CASES = {
    f'test_{name.replace("-", "_")}': _shown_by_cases(difference)
    for name, difference in DIFFERENCES.items()
    if 'cases' in difference
}
for _name, _test in SHOWN_BY_CASES.items():
    setattr(DifferencesTest, _name, _test)
