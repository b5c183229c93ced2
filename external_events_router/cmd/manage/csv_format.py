"""CSV: a line of names, then a line of values for each thing; several values in one cell as for people.

cliff itself has CSV for lists only, and in a cell of several values Python's form. A
spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula; an
apostrophe before it prevents this.
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

#: How a formula of a spreadsheet begins.
_FORMULA = ('=', '+', '-', '@')


class CsvFormatter(base.ListFormatter, base.SingleFormatter):
    """``-f csv``."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """There is nothing to choose."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print the lines."""
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
        """Print the two lines."""
        self.emit_list(column_names, [data], stdout, parsed_args)


def _cell(value: object) -> object:
    cell = formats.for_people(value)
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
