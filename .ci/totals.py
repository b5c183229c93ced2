"""Print the results of all the runs that stestr kept: slow tests, failed tests, counts.

The failed tests are last, because often only the end of a long output is kept.
"""

import collections
import sys

from stestr.repository import util
import testtools

SLOWEST = 15
#: Failed tests with a traceback, and lines of each.
TRACEBACKS = 5
LINES = 15

FAILED = ('fail', 'inprogress', 'uxsuccess', 'unknown')


def read():
    """Return the tests of all runs, as the dictionaries of testtools."""
    tests = []
    runs = util.get_repo_open()
    for run in range(runs.count()):
        result = testtools.StreamToDict(tests.append)
        result.startTestRun()
        runs.get_test_run(run).get_test().run(result)
        result.stopTestRun()
    return tests


def seconds(test):
    """Return the duration of a test, 0.0 if its beginning or its end is unknown."""
    began, ended = test['timestamps']
    return (ended - began).total_seconds() if began and ended else 0.0


def traceback(test):
    """Return the last lines that explain the failure of a test.

    The captured log is used only if the test has no traceback, for example because its process ended.
    """
    texts = {
        name: content.as_text().rstrip()
        for name, content in test['details'].items()
        if content.content_type.type == 'text'
    }
    chosen = [text for name, text in sorted(texts.items()) if 'traceback' in name]
    text = '\n'.join(chosen or texts.values()) or 'no traceback: the test did not end'
    return text.splitlines()[-LINES:]


def print_durations(tests):
    folders = collections.Counter()
    for test in tests:
        # The id of a failed fixture is "setUpClass (tests.unit.x.Y)".
        name = test['id'].rpartition('(')[2]
        folders['.'.join(name.split('.')[:2])] += seconds(test)
    print('\nseconds  slowest tests')
    for test in sorted(tests, key=seconds, reverse=True)[:SLOWEST]:
        print(f'{seconds(test):7.1f}  {test["id"]}')
    print('\nseconds  folder (the sum of its tests)')
    for folder, total in folders.most_common():
        print(f'{total:7.0f}  {folder}')


def print_failures(failed):
    for test in failed[:TRACEBACKS]:
        print(f'\n=== {test["status"]}: {test["id"]}')
        print('\n'.join(traceback(test)))
    if failed:
        print('\nfailed tests:')
    for test in failed:
        print(f'  {test["id"]}')


def main():
    tests = read()
    counts = collections.Counter(test['status'] for test in tests)
    failed = [test for test in tests if test['status'] in FAILED]
    passed = counts['success'] + counts['xfail']
    print_durations([test for test in tests if test['status'] != 'skip'])
    print_failures(failed)
    print(f'\n{passed} passed, {len(failed)} failed, {counts["skip"]} skipped')
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main())
