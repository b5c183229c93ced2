"""Run the integration tests: most of them in parallel, then those that measure time, alone.

    python -m tests.integration [ARGUMENTS OF stestr run]

With arguments, for example a regular expression, the selected tests run one after the other.
"""

from __future__ import annotations

import subprocess
import sys

#: Most tests wait for processes, timeouts and services, so three at a time occupy two processors.
WORKERS = 3

#: Classes that compare the duration of an answer with a limit that a second of delay would exceed.
MEASURED = (
    r'test_databases\.\w+Bounds\.',
    r'test_deployment\.',
    r'test_frozen_database\.',
    r'test_keystone\.',
    r'test_processes\.',
    r'test_queues\.SilentNodeTest\.',
)


def run(*arguments: str) -> int:
    """Run stestr, and return its exit status."""
    command = [sys.executable, '-m', 'stestr.cli', '--test-path', 'tests/integration', 'run', *arguments]
    return subprocess.run(command, check=False).returncode


def main(arguments: list[str]) -> int:
    if arguments:
        return run('--serial', *arguments)
    measured = rf'^tests\.integration\.({"|".join(MEASURED)})'
    status = run('--concurrency', str(WORKERS), '--exclude-regex', measured)
    return run('--serial', measured) or status


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
