"""Writes a Guru Meditation Report after SIGUSR2: threads, configuration, parts of the process.

SIGUSR2 and SIGUSR1 end a process that does not handle them. :func:`install` handles both: SIGUSR1 is
logged and has no other effect.
"""

from __future__ import annotations

from collections.abc import Callable
import datetime
import functools
import logging
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import types
from typing import Any

from oslo_config import cfg
from oslo_reports import guru_meditation_report
from oslo_reports import opts as report_opts
from oslo_reports.models import with_default_views
from oslo_reports.views.text import generic

from external_events_router.process import parts
from external_events_router.process import printable

LOG = logging.getLogger(__name__)

#: Maximum seconds for one section. A process that hangs may hold the locks that a section needs.
SECTION_TIMEOUT = 2.0

#: A password in a URL, which may name several hosts with a password each.
_PASSWORD = re.compile(r'((?://|,)[^:/@,\s]*:)[^,\s]*@')


class Version:
    """The version of this release, in the form that oslo.reports reads."""

    def __init__(self, product: str, version: str) -> None:
        self._product = product
        self._version = version

    def vendor_string(self) -> str:
        """Return the vendor."""
        return 'external-events-router'

    def product_string(self) -> str:
        """Return the name of the command."""
        return self._product

    def version_string_with_package(self) -> str:
        """Return the version of the package."""
        return self._version


class Report(guru_meditation_report.TextGuruMeditation):
    """A report that is written although a section fails or hangs."""

    def add_section(self, view: Any, generator: Callable[[], Any], index: int | None = None) -> None:
        """Add a section; see ``oslo_reports.report.ReportOfType``."""
        super().add_section(view, functools.partial(_bounded, generator), index)

    def run(self) -> str:
        """Return the text, without passwords in URLs and without characters that control a terminal."""
        text = _PASSWORD.sub(r'\1***@', super().run())
        return '\n'.join(map(printable.escape, text.split('\n')))


def register_options(conf: cfg.ConfigOpts) -> None:
    """Register ``[oslo_reports]``."""
    report_opts.set_defaults(conf)


def install(conf: cfg.ConfigOpts, service: str, version: str) -> None:
    """Handle SIGUSR1 and SIGUSR2 in this process. Call it on the main thread only.

    :param service: name of the command, for the title and for the name of the file
    """
    write = functools.partial(_write, conf.oslo_reports.log_dir, service, version)
    # NOTE: a handler runs between two steps of the main thread, so it can be late by any time if the
    # main thread waits. A process that reads a wake-up descriptor does not have this problem.
    owner = signal.set_wakeup_fd(-1)
    if owner == -1:
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        owner = writer.detach()
        threading.Thread(target=_read_signals, args=(reader, write), name='signals', daemon=True).start()
        handle = _do_nothing
    else:
        handle = functools.partial(_start, write)
    signal.set_wakeup_fd(owner, warn_on_full_buffer=False)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, handle)


def _read_signals(reader: socket.socket, write: Callable[[], None]) -> None:
    while numbers := reader.recv(1):
        _start(write, numbers[0], None)


def _do_nothing(_number: int, _frame: types.FrameType | None) -> None:
    """Do nothing: the interpreter writes only signals that have a handler to the descriptor."""


def _start(write: Callable[[], None], number: int, _frame: types.FrameType | None) -> None:
    """Start the action of a signal on a thread: the main thread may hold a lock that a report needs."""
    target = {signal.SIGUSR1: _log_ignored, signal.SIGUSR2: write}.get(signal.Signals(number))
    if target is not None:
        threading.Thread(target=target, name='report', daemon=True).start()


def _log_ignored() -> None:
    LOG.info('SIGUSR1 received: it has no effect. SIGUSR2 writes a report')


def _write(folder: str | None, service: str, version: str) -> None:
    # NOTE: an exception that ends a thread ends the process, which must not happen for a diagnosis.
    try:
        _write_report(folder, service, version)
    except Exception:
        LOG.exception('SIGUSR2 received: the report cannot be written')


def _write_report(folder: str | None, service: str, version: str) -> None:
    text = Report(Version(service, version)).run()
    if folder is None:
        sys.stderr.write(f'{text}\n')
        sys.stderr.flush()
        LOG.info('SIGUSR2 received: the report was written to the standard error')
        return
    now = datetime.datetime.now(datetime.UTC).strftime('%Y%m%d%H%M%S')
    path = pathlib.Path(folder) / f'{service}_gurumeditation_{now}_{os.getpid()}'
    try:
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), 'w', encoding='utf-8'
        ) as file:
            file.write(f'{text}\n')
    except OSError as exc:
        LOG.error('SIGUSR2 received: the report cannot be written: %s; check [oslo_reports] log_dir', exc)
    else:
        LOG.info('SIGUSR2 received: the report was written to %s', path)


def _bounded(generator: Callable[[], Any]) -> Any:
    """Return what a generator returns, or a model with the reason why it does not."""
    found: list[Any] = []

    def read() -> None:
        try:
            found.append(generator())
        except Exception as exc:  # the other sections must be written
            found.append(_model({'error': f'{type(exc).__name__}'}))

    thread = threading.Thread(target=read, name='report-section', daemon=True)
    thread.start()
    thread.join(SECTION_TIMEOUT)
    return found[0] if found else _model({'error': f'no answer within {SECTION_TIMEOUT:.0f} s'})


def _section(kind: parts.Kind) -> with_default_views.ModelWithDefaultViews:
    described: dict[str, Any] = {}
    for number, status in enumerate(parts.ALL.read(kind)):
        described[f'{status.name} ({number})'] = {'state': status.state.value, **status.details}
    return _model(described or {'number': 0})


def _model(values: dict[str, Any]) -> with_default_views.ModelWithDefaultViews:
    view = generic.KeyValueView(dict_sep=': ', before_dict='')
    return with_default_views.ModelWithDefaultViews(values, text_view=view)


for _kind in parts.Kind:
    Report.register_section(_kind.value, functools.partial(_section, _kind))
