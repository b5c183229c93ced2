"""The files of exact versions fit ``setup.cfg``."""

from __future__ import annotations

from packaging.requirements import Requirement

from tests import base
from tools import constraints
from tools import distribution


class ConstraintsTest(base.TestCase):
    def test_each_requirement_has_a_version_that_it_allows(self):
        self.assertEqual([], [str(problem) for problem in constraints.problems()])

    def test_a_problem_names_the_file_the_requirement_and_the_command(self):
        wanted = [Requirement('oslo.messaging>=9000'), Requirement('no-such-library')]
        found = [str(problem) for problem in constraints._compare(constraints.CONSTRAINTS, wanted)]
        self.assertEqual(2, len(found), found)
        self.assertRegex(found[0], r'^constraints.txt: oslo.messaging>=9000: version \S+ is not allowed;')
        self.assertRegex(found[1], r'^constraints.txt: no-such-library: no version; run python -m tools.')

    def test_versions_for_other_pythons_are_ignored(self):
        text = "one==1 ; python_full_version < '3.8'\none==2 ; python_full_version >= '3.8'\ntwo==3 \\\n"
        self.assertEqual({'one': '2', 'two': '3'}, constraints.pinned_versions(text))


class LicencesTest(base.TestCase):
    def test_one_known_licence_of_alternatives_is_enough(self):
        self.assertTrue(distribution.allowed('Apache-2.0 OR GPL-3.0-only'))
        self.assertTrue(distribution.allowed('BSD License; MIT'))

    def test_each_licence_of_a_combination_must_be_known(self):
        self.assertFalse(distribution.allowed('MIT AND GPL-3.0-only'))
        self.assertFalse(distribution.allowed('UNKNOWN'))
