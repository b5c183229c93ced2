"""``external-events-manage``: the operator's command for what is in the database.

A module per group of commands beside this one, and ``app`` for what they
share. It works on the database itself and connects to no broker and no service.
"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import sys
from typing import TextIO
from typing import cast

from external_events_router.cmd import printable
from external_events_router.cmd import startup
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import broker
from external_events_router.cmd.manage import db
from external_events_router.cmd.manage import held
from external_events_router.cmd.manage import host_map

#: A command as it is typed, and its class.
COMMANDS = {**broker.COMMANDS, **db.COMMANDS, **held.COMMANDS, **host_map.COMMANDS}


def run(argv: Sequence[str]) -> int:
    """Run one command.

    :param argv: the arguments after the program's name
    :returns: the exit status
    """
    # NOTE: argparse and cliff repeat arguments in their errors, as they are.
    out, err = (cast(TextIO, printable.Stream(stream)) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return app.ManageApp(COMMANDS, stdout=out, stderr=err).run(list(argv))


def _main() -> int:
    return run(sys.argv[1:])


main = startup.entry_point(_main)
