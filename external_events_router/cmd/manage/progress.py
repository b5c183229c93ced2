"""Progress of an import on the standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
from typing import Protocol
from typing import TextIO

from rich import console
from rich import progress

from external_events_router.process import printable

#: Lines of the file, or servers, between two lines of progress.
STEP = 100_000


class Report(Protocol):
    """Receives the progress of an import."""

    def counting(self, source: Iterable[bytes]) -> Iterable[bytes]:
        """Return the lines unchanged, and count them while they are read."""
        ...

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """:param step: ``reading`` (lines) or ``writing`` (servers)"""
        ...


@contextlib.contextmanager
def shown(stream: TextIO, *, size: int | None) -> Iterator[Report]:
    """Show the progress of one import.

    :param size: bytes of the file, if known
    """
    if not stream.isatty():
        yield Lines(stream)
        return
    with progress.Progress(
        progress.TextColumn('{task.description}'),
        progress.BarColumn(),
        progress.TextColumn('{task.fields[done]}'),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        # NOTE: a bar moves the cursor, so its output must not be escaped. It contains only numbers.
        console=console.Console(file=stream.inner if isinstance(stream, printable.Stream) else stream),
    ) as bars:
        yield Bars(bars, size=size)


class Lines:
    """Writes a line after every :data:`STEP` lines or servers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = {'reading': STEP, 'writing': STEP}

    def counting(self, source: Iterable[bytes]) -> Iterable[bytes]:
        return source

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if done >= self._next[step]:
            self._next[step] = done - done % STEP + STEP
            what = f'{done} lines' if total is None else f'{done} of {total} servers'
            self._stream.write(f'{step}: {what}\n')
            self._stream.flush()


class Bars:
    """Shows a bar for each step. The bar for reading uses bytes, because the number of lines is unknown."""

    def __init__(self, bars: progress.Progress, *, size: int | None) -> None:
        self._bars = bars
        self._size = size
        self._bytes = 0
        self._tasks: dict[str, progress.TaskID] = {}

    def counting(self, source: Iterable[bytes]) -> Iterator[bytes]:
        for line in source:
            self._bytes += len(line)
            yield line

    def __call__(self, step: str, done: int, total: int | None) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, done='')
        if step == 'reading':
            known = {'completed': self._bytes, 'total': self._size, 'done': f'{done:,} lines'}
        else:
            known = {'completed': done, 'total': total, 'done': f'{done:,} servers'}
        self._bars.update(self._tasks[step], **known)  # type: ignore[arg-type]
