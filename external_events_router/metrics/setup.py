"""Builds the objects that count and serve the metrics of a process, as ``[metrics]`` configures it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import logging
import pathlib

from oslo_config import cfg
from prometheus_client import core

from external_events_router import exceptions
from external_events_router.metrics import catalogue
from external_events_router.metrics import collector
from external_events_router.metrics import exporter
from external_events_router.metrics import file_recorder
from external_events_router.metrics import files
from external_events_router.metrics import processes
from external_events_router.metrics import recorder
from external_events_router.metrics import senders
from external_events_router.metrics import values
from external_events_router.process import slots

LOG = logging.getLogger(__name__)

#: Name of the lock of the process that serves the files of a folder.
EXPORTER_LOCK = 'exporter.lock'

Part = Callable[[], Iterable[core.Metric]]


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """A service that has its own files and its own exporter.

    :ivar name: the name of its folder
    :ivar roles: the roles of its processes
    :ivar workers: number of processes that count; None: it is not in the configuration
    """

    name: str
    roles: frozenset[catalogue.Role]
    workers: int | None


def is_enabled(conf: cfg.ConfigOpts) -> bool:
    """Return whether metrics are counted and served."""
    return conf.metrics.bind_port is not None


def check(conf: cfg.ConfigOpts, service: Service, *, is_serving: bool = False) -> None:
    """Make sure that metrics can be counted and served, before any worker starts.

    :param is_serving: the service runs, so its port is in use
    :raises ConfigurationError: it names the option to correct
    """
    if not is_enabled(conf):
        return
    _sender_names(conf)
    _folder(conf, service)
    if not is_serving:
        exporter.check(conf.metrics.bind_host, conf.metrics.bind_port)


def count(conf: cfg.ConfigOpts, service: Service) -> None:
    """Count in this process from now on. Call it after the fork in a service that forks.

    A process that cannot count works without metrics and logs an ERROR.
    """
    if not is_enabled(conf):
        return
    try:
        stored = values.claim(_folder(conf, service), catalogue.stored(service.roles))
    except (OSError, files.Damaged, exceptions.ConfigurationError) as exc:
        LOG.error(
            'This process counts no metrics, because its files cannot be written: %s. Look at [metrics] '
            'directory and at the free space there, and restart the service',
            exc,
        )
        return
    recorder.install(file_recorder.FileRecorder(stored, _sender_names(conf)))


def make_exporter(
    conf: cfg.ConfigOpts,
    service: Service,
    *,
    version: str,
    parts: Sequence[Part] = (),
    wait: bool = False,
) -> exporter.Exporter | None:
    """Return the exporter of a service; None: metrics are disabled.

    :param version: the version of the release
    :param parts: functions that return further metrics
    :param wait: wait until no other process serves the folder and the port is free
    :raises ConfigurationError: the folder cannot be used
    """
    if not is_enabled(conf):
        return None
    folder = _folder(conf, service)
    return exporter.Exporter(
        conf.metrics.bind_host,
        conf.metrics.bind_port,
        claim=lambda: slots.lock(folder / EXPORTER_LOCK),
        collect=_Collection(conf, service, folder, version=version, parts=parts).collect,
        wait=wait,
    )


class _Collection:
    """All metrics of a service. For one thread at a time."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        service: Service,
        folder: pathlib.Path,
        *,
        version: str,
        parts: Sequence[Part],
    ) -> None:
        self._conf = conf
        self._service = service
        self._version = version
        self._files = collector.Files(folder, catalogue.stored(service.roles))
        self._parts = parts

    def collect(self) -> Iterator[core.Metric]:
        return collector.chained([self._of_processes, self._of_configuration, *self._parts])

    def _of_processes(self) -> Iterator[core.Metric]:
        claimed = self._files.claimed()
        yield from self._files.collect(claimed)
        yield collector.simple(catalogue.FILES_UNREADABLE, {(): float(self._files.unreadable)})
        yield collector.simple(catalogue.WORKERS, {(): float(len(claimed))})
        yield from processes.collect(claimed)

    def _of_configuration(self) -> Iterator[core.Metric]:
        if self._service.workers is not None:
            yield collector.simple(catalogue.WORKERS_CONFIGURED, {(): float(self._service.workers)})
        yield collector.simple(catalogue.BUILD_INFO, {(self._version,): 1.0})
        if not catalogue.ACK_TIMEOUT.roles.isdisjoint(self._service.roles):
            yield collector.simple(catalogue.ACK_TIMEOUT, {(): self._conf.delivery.ack_timeout})


def _folder(conf: cfg.ConfigOpts, service: Service) -> pathlib.Path:
    folder = pathlib.Path(conf.metrics.directory) / service.name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # NOTE: root may write where the service may not.
        probe = folder / 'writable'
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as exc:
        raise exceptions.ConfigurationError(
            option='[metrics] directory', reason=f'{folder} cannot be written: {exc.strerror or exc}'
        ) from exc
    return folder


def _sender_names(conf: cfg.ConfigOpts) -> senders.Senders:
    by_user: dict[str, str] = conf.metrics.sender_users
    _check_senders(by_user.values())
    return senders.Senders(by_user)


def _check_senders(names: Collection[str]) -> None:
    for name in names:
        if name not in catalogue.SENDERS:
            raise exceptions.ConfigurationError(
                option='[metrics] sender_users',
                reason=f'{name!r} is not one of {", ".join(catalogue.SENDERS)}',
            )
