"""Rows as text: for a terminal while they are measured, for the documentation at the end."""

from __future__ import annotations

COLUMNS = (
    'fault',
    'sent',
    'codes',
    '503',
    'longest s',
    'stall s',
    'normal s',
    'late',
    'lost',
    'doubled',
    'disordered',
    'overdue',
    'held',
    'no 200',
)


def cells(row):
    """The text of each column. A 503 in parentheses: the database was unavailable."""
    audit = row.audit
    return (
        row.name,
        str(row.codes.total()),
        ', '.join(f'{count} x {code}' for code, count in sorted(row.codes.items())),
        f'({row.refused})' if row.refused and row.may_refuse else str(row.refused),
        f'{row.longest:.2f}',
        f'{row.stalled:.2f}',
        'never' if row.normal is None else f'{row.normal:.1f}',
        str(len(audit.late)),
        str(len(audit.lost)),
        str(len(audit.doubled)),
        str(len(audit.disordered)),
        str(len(audit.overdue)),
        '?' if row.held is None else str(row.held),
        str(len(audit.handled_without_200)),
    )


def as_text(rows):
    """For a terminal."""
    lines = [COLUMNS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return '\n'.join(_line(line, widths) for line in lines)


def _line(line, widths):
    # Text columns are aligned left, columns of numbers right.
    return '  '.join(
        cell.ljust(width) if column in (0, 2) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()


def as_rst(rows):
    """For the documentation."""
    return '\n'.join(
        [
            '.. list-table::',
            '   :header-rows: 1',
            '',
            *(
                f'   {"*" if number == 0 else " "} - {cell}'
                for line in (COLUMNS, *map(cells, rows))
                for number, cell in enumerate(line)
            ),
        ]
    )


def details(row, *, named=5):
    """The problems of a row, with examples of the affected events."""
    found = {
        'lost': row.audit.lost,
        'doubled': row.audit.doubled,
        'disordered': row.audit.disordered,
        'overdue': row.audit.overdue,
    }
    for what, tags in found.items():
        if tags:
            yield f'{row.name}: {what}: {", ".join(list(tags)[:named])}'
    for reason, count in row.reasons.most_common(named):
        yield f'{row.name}: {count} x 503: {reason}'
    for note in (*row.notes, *row.problems):
        yield f'{row.name}: {note}'
    if row.problem:
        yield f'{row.name}: {row.problem}'
