"""``external-events-manage``: the command with which an operator reads and changes the database.

This package has one module per group of commands; ``app`` contains the parts that they share. The
command connects to the database. Only ``replay`` and ``simulate`` also connect to the broker and
to a resolver.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import sys
from typing import TextIO
from typing import cast

from external_events_router.cmd.manage import actions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import broker
from external_events_router.cmd.manage import db
from external_events_router.cmd.manage import doctor
from external_events_router.cmd.manage import events
from external_events_router.cmd.manage import explain
from external_events_router.cmd.manage import health
from external_events_router.cmd.manage import held
from external_events_router.cmd.manage import host_map
from external_events_router.cmd.manage import hosts
from external_events_router.cmd.manage import replay
from external_events_router.cmd.manage import simulate
from external_events_router.cmd.manage import workers
from external_events_router.process import printable
from external_events_router.process import startup

#: The words of a command, and its class.
COMMANDS = {
    **actions.COMMANDS,
    **broker.COMMANDS,
    **db.COMMANDS,
    **doctor.COMMANDS,
    **events.COMMANDS,
    **explain.COMMANDS,
    **health.COMMANDS,
    **held.COMMANDS,
    **host_map.COMMANDS,
    **replay.COMMANDS,
    **hosts.COMMANDS,
    **simulate.COMMANDS,
    **workers.COMMANDS,
}


def run(argv: Sequence[str]) -> int:
    """Run one command.

    :param argv: arguments after the name of the program
    :returns: exit status
    """
    # NOTE: the errors of argparse and cliff repeat arguments without escaping them.
    out, err = (cast(TextIO, printable.Stream(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return app.ManageApp(COMMANDS, stdout=out, stderr=err).run(list(argv))


def _main() -> int:
    return run(sys.argv[1:])


main = startup.entry_point(_main)
