"""The formats table, value and shell of cliff, safe for terminals and shells.

cliff writes values unchanged. These formatters replace each character that is not printable by
a visible escape, and quote values for the shell. The JSON and YAML formats of cliff escape such
characters themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import re
import shlex
from typing import Any
from typing import TextIO

from cliff import columns
from cliff.formatters import shell
from cliff.formatters import table
from cliff.formatters import value

from external_events_router.process import printable

#: Characters that are not permitted in the name of a shell variable.
_NOT_IN_NAMES = re.compile('[^a-z0-9_]')


def for_people(cell: object) -> object:
    """Return a cell for a table: several values on one line; numbers stay numbers."""
    if isinstance(cell, columns.FormattableColumn):
        cell = cell.human_readable()
    return printable.escape(cell) if isinstance(cell, str) else cell


def for_programs(cell: object) -> str:
    """Return a cell as a string: several values as a Python list."""
    if isinstance(cell, columns.FormattableColumn):
        cell = cell.machine_readable()
    return printable.escape(str(cell))


class TableFormatter(table.TableFormatter):
    """The format ``-f table``."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print a table with a row for each object."""
        super().emit_list(column_names, _rows(data, for_people), stdout, parsed_args)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print a table with a row for each field."""
        super().emit_one(column_names, [for_people(cell) for cell in data], stdout, parsed_args)


class ValueFormatter(value.ValueFormatter):
    """The format ``-f value``."""

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print a line for each object."""
        super().emit_list(column_names, _rows(data, for_programs), stdout, parsed_args)

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print a line for each field."""
        super().emit_one(column_names, [for_programs(cell) for cell in data], stdout, parsed_args)


class ShellFormatter(shell.ShellFormatter):
    """The format ``-f shell``: assignments for ``eval``."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[Any],
        stdout: TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print an assignment for each field."""
        for column, cell in zip(column_names, data, strict=True):
            name = _NOT_IN_NAMES.sub('_', column.lower())
            if not parsed_args.variables or name in parsed_args.variables:
                stdout.write(f'{parsed_args.prefix}{name}={shlex.quote(for_programs(cell))}\n')


def _rows(data: Iterable[Sequence[Any]], convert: Callable[[object], object]) -> Iterator[Sequence[Any]]:
    for row in data:
        yield [convert(cell) for cell in row]
