"""Print how many tests passed and failed in all the runs that stestr kept."""

import collections
import sys

from stestr.repository import util
import testtools

counts = collections.Counter()


def count(test):
    counts[test['status']] += 1


runs = util.get_repo_open()
for run in range(runs.count()):
    result = testtools.StreamToDict(count)
    result.startTestRun()
    runs.get_test_run(run).get_test().run(result)
    result.stopTestRun()

passed = counts['success'] + counts['xfail']
failed = sum(counts[status] for status in ('fail', 'inprogress', 'uxsuccess', 'unknown'))
print(f'{passed} passed, {failed} failed, {counts["skip"]} skipped')
sys.exit(1 if failed or not passed else 0)
