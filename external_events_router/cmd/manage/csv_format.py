"""CSV for commands that show one thing: a line of names, a line of values.

cliff itself has CSV for lists only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import csv
from typing import Any
from typing import TextIO

from cliff import columns
from cliff.formatters import base


class CsvFormatter(base.SingleFormatter):
    """``-f csv`` of a ``ShowOne``."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """There is nothing to choose."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print the two lines; several values in one cell as for people."""
        writer = csv.writer(stdout, lineterminator='\n')
        writer.writerow(column_names)
        writer.writerow(
            value.human_readable() if isinstance(value, columns.FormattableColumn) else value
            for value in data
        )
