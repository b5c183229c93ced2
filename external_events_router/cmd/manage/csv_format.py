"""CSV: a line of names, then a line of values for each thing; several values in one cell as for people.

cliff itself has CSV for lists only, and in a cell of several values Python's form.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
import csv
from typing import Any
from typing import TextIO

from cliff import columns
from cliff.formatters import base


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
            writer.writerow(
                value.human_readable() if isinstance(value, columns.FormattableColumn) else value
                for value in row
            )

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print the two lines."""
        self.emit_list(column_names, [data], stdout, parsed_args)
