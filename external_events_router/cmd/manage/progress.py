"""How far an import has come, on the standard error: a bar for people, lines for logs."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
from typing import Protocol
from typing import TextIO

from rich import console
from rich import progress

from external_events_router.cmd import printable

#: Lines of a file, or servers, from one line of the plain form to the next.
STEP = 100_000


class Report(Protocol):
    """Told how far an import is."""

    def counting(self, source: Iterable[bytes]) -> Iterable[bytes]:
        """The source as it is; what passes is counted."""
        ...

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """:param step: ``reading`` (lines) or ``writing`` (servers)"""
        ...


@contextlib.contextmanager
def shown(stream: TextIO, *, size: int | None) -> Iterator[Report]:
    """Show the progress of one import.

    :param size: bytes of the file, where that is known
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
        # NOTE: a bar moves the cursor, and shows nothing but numbers.
        console=console.Console(file=stream.inner if isinstance(stream, printable.Stream) else stream),
    ) as bars:
        yield Bars(bars, size=size)


class Lines:
    """A line now and then."""

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
    """A bar for each step; that of reading goes by bytes, because nobody knows the lines."""

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
