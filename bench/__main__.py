"""``python -m bench``: start a complete deployment, measure it, print tables, and stop it again.

RabbitMQ and a database are used as in the integration tests, on this machine only. To
compare with another implementation, start it first, and pass its URL, the servers that it
knows and its process ids::

    python -m bench grid --against http://127.0.0.1:18774/v2.1/os-server-external-events \\
        --servers uuids.json --pids api=api.pid
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import sys

from bench import against
from bench import plot
from bench import scenarios
from bench import site

#: All scenarios except the scenarios that take ten minutes each.
USUAL = ('grid', 'wide', 'idle', 'dead-host', 'hold', 'storm')


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog='python -m bench', description='Measure the service on this machine.'
    )
    parser.add_argument(
        'scenarios',
        nargs='*',
        metavar='SCENARIO',
        help=f'of {", ".join(scenarios.ALL)}; default: {" ".join(USUAL)}',
    )
    parser.add_argument('--seconds', type=float, default=6.0, help='of each measurement')
    parser.add_argument('--rounds', type=int, default=3, help='number of rounds of each measurement')
    parser.add_argument('--minutes', type=int, default=10, help='duration of the scenario memory')
    parser.add_argument('--database', choices=sorted(site.DATABASES), default='mysql')
    parser.add_argument('--resolver', choices=('local', 'rpc'), default='local', help='[api] resolver')
    parser.add_argument(
        '--journal', action='store_true', help='grid: alternate with a deployment whose journal is off'
    )
    parser.add_argument('--against', metavar='URL', help='the resource of another implementation')
    parser.add_argument('--servers', metavar='FILE', help='JSON list of the servers that it knows')
    parser.add_argument('--pids', action='append', default=[], metavar='NAME=PID|FILE', help='its processes')
    parser.add_argument('--header', action='append', default=[], help='additional header for it')
    parser.add_argument('--out', metavar='FILE', help='everything, as JSON')
    parser.add_argument('--plot', metavar='FILE', help='write the grid as an SVG or PNG (needs matplotlib)')
    options = parser.parse_args(argv)
    names = options.scenarios or USUAL
    if unknown := set(names) - set(scenarios.ALL):
        parser.error(f'no such scenario: {", ".join(sorted(unknown))}')
    if options.against and not options.servers:
        parser.error('--against needs --servers')
    options.against = (
        [against.target(options.against, options.servers, options.pids, options.header)]
        if options.against
        else []
    )
    machine = f'Python {platform.python_version()}, {os.cpu_count()} cores'
    print(f'{machine}, {options.database}, resolver {options.resolver}')
    made = {}
    for name in names:
        print(f'\n=== {name}: {scenarios.ALL[name].__doc__}', flush=True)
        made[name] = scenarios.ALL[name](options)
        if options.out:
            pathlib.Path(options.out).write_text(json.dumps(made, indent=1))
    if options.plot and 'grid' in made:
        plot.grid(made['grid']['runs'], options.plot)
    return 0


if __name__ == '__main__':
    sys.exit(main())
