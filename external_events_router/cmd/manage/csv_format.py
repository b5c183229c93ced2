"""CSV: one line with column names, then one line per object. A cell with several values is one string.

cliff supports CSV only for lists, and writes a cell with several values as a Python list. A
spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula; an apostrophe
before it prevents this.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
import csv
from typing import Any
from typing import TextIO

from cliff.formatters import base

from external_events_router.cmd.manage import formats

#: First characters of a formula in a spreadsheet.
_FORMULA = ('=', '+', '-', '@')


class CsvFormatter(base.ListFormatter, base.SingleFormatter):
    """The format ``-f csv``."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """Add nothing: the format has no options."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print a line for each object."""
        writer = csv.writer(stdout, lineterminator='\n')
        writer.writerow(column_names)
        for row in data:
            writer.writerow(map(_cell, row))

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print the line of names and the line of values."""
        self.emit_list(column_names, [data], stdout, parsed_args)


def safe(cell: object) -> object:
    """Return a cell that a spreadsheet does not run as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell != '-' and cell.startswith(_FORMULA) else cell


def _cell(value: object) -> object:
    return safe(formats.for_people(value))
