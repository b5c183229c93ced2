"""Many hosts in one process, whose handlers only count, so that the delivery is measured.

Run as a process of its own::

    python -m bench.agents [--no-handler] CONFIG_FILE COUNT_FILE HOST...

The file contains the number of handled events as text, updated at an interval. Without a handler it
remains 0.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import sys
import threading

from external_events_router.agent import Fleet
from external_events_router.agent import Handlers
from external_events_router.messaging import rpc
from external_events_router.process import signals
from external_events_router.process import startup

#: Seconds between two updates of the file.
INTERVAL = 0.2


def main(argv=None):
    parser = argparse.ArgumentParser(prog='python -m bench.agents')
    parser.add_argument('--no-handler', action='store_true', help='do not register the handler that counts')
    parser.add_argument('config_file')
    parser.add_argument('count_file', type=pathlib.Path)
    parser.add_argument('hosts', nargs='+')
    options = parser.parse_args(argv)
    conf = startup.load('bench-agents', ['--config-file', options.config_file])
    came = signals.catch()
    handlers, numbers = Handlers(), itertools.count(1)

    def count(ctxt, event):
        # NOTE: one step of the interpreter, which needs no lock; a sum would be several steps.
        next(numbers)

    if not options.no_handler:
        handlers.on('*', count)
    threading.Thread(target=_write, args=(options.count_file, numbers), name='count', daemon=True).start()
    fleet = Fleet.from_conf(conf, rpc.get_transport(conf), options.hosts, handlers=handlers)
    fleet.start()
    # NOTE: in one write even if the output is unbuffered, because the log has the same output.
    print('ready\n', end='', flush=True)
    came.get()
    fleet.stop(conf.agent.stop_timeout)


def _write(path, numbers):
    reported = None
    pause = threading.Event()
    while not pause.wait(INTERVAL):
        # The repr of the counter contains the number that it returns next.
        count = int(repr(numbers).rpartition('(')[2][:-1]) - 1
        if count != reported:
            beside = path.with_suffix('.new')
            beside.write_text(str(count))
            os.replace(beside, path)
            reported = count


if __name__ == '__main__':
    sys.exit(main())
