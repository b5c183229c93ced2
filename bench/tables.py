"""Numbers as plain text: columns, medians of rounds, and ratios of alternating measurements."""

from __future__ import annotations

import statistics


def show(heads, rows, *, title=''):
    """Print a table.

    :param heads: the headings of the columns
    :param rows: one cell per column; numbers are printed with three significant digits
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    if title:
        print(f'\n{title}\n')
    for row in (heads, *texts):
        print('  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)), flush=True)


def median(runs, figure):
    """The median of a value over some runs."""
    return statistics.median(map(figure, runs))


def _text(cell):
    if isinstance(cell, float):
        digits = 3 if abs(cell) < 1 else 2 if abs(cell) < 10 else 1 if abs(cell) < 100 else 0
        return f'{cell:.{digits}f}'
    return str(cell)
