"""Metrics of a command: what its processes count, and what its exporter reads beside their files."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import functools
import logging

from oslo_config import cfg
from prometheus_client import core

from external_events_router import exceptions
from external_events_router.db import session
from external_events_router.metrics import cached
from external_events_router.metrics import catalogue
from external_events_router.metrics import collector
from external_events_router.metrics import exporter
from external_events_router.metrics import setup
from external_events_router.process import certificates
from external_events_router.process import startup
from external_events_router.resolver.hold import statistics

LOG = logging.getLogger(__name__)

#: Seconds between two readings of the database, and of certificates.
DATABASE_INTERVAL = 15.0
CERTIFICATE_INTERVAL = 60.0

#: Seconds that a statement of the readings may take.
READ_TIMEOUT = 10.0


def api(conf: cfg.ConfigOpts) -> setup.Service:
    """Describe the API, which has a resolver in each process unless ``[api] resolver = rpc``."""
    roles = catalogue.API if conf.api.resolver == 'rpc' else catalogue.API | catalogue.RESOLVER
    return setup.Service('api', roles, conf.api.workers)


def wsgi(conf: cfg.ConfigOpts) -> setup.Service:
    """Describe the API under another WSGI server, which decides on the number of processes."""
    return dataclasses.replace(api(conf), workers=None)


def resolver(conf: cfg.ConfigOpts) -> setup.Service:
    """Describe the resolver."""
    return setup.Service('resolver', catalogue.RESOLVER, conf.resolver.workers)


def agent() -> setup.Service:
    """Describe the agent."""
    return setup.Service('agent', catalogue.AGENT, 1)


def all_in_one() -> setup.Service:
    """Describe all services in one process."""
    return setup.Service('all-in-one', catalogue.EVERY_ROLE, 1)


def make_exporter(
    conf: cfg.ConfigOpts, service: setup.Service, *, wait: bool = False
) -> exporter.Exporter | None:
    """Return the exporter of a service; None: metrics are disabled.

    :param wait: see :func:`setup.make_exporter`
    :raises ConfigurationError: the folder of the files cannot be used
    """
    if not setup.is_enabled(conf):
        return None
    read = functools.partial(read_certificates, conf)
    parts: list[setup.Part] = [cached.Cached(read, interval=CERTIFICATE_INTERVAL).collect]
    if catalogue.Role.RESOLVER in service.roles:
        held = statistics.Statistics(session.Database.from_conf(conf, read_timeout=READ_TIMEOUT))
        read_held = functools.partial(read_hold, held)
        parts.append(cached.Cached(read_held, interval=DATABASE_INTERVAL, overdue=no_database).collect)
    return setup.make_exporter(conf, service, version=startup.version(), parts=parts, wait=wait)


def read_hold(held: statistics.Statistics) -> Iterator[core.Metric]:
    """Return the metrics of the hold; only its availability while the database is unavailable."""
    try:
        counts = held.read()
    except exceptions.RouterError as exc:
        LOG.debug('The numbers of held events cannot be read: %s', exc)
        yield from no_database()
        return
    by_state: dict[catalogue.LabelValues, float] = {
        (str(state),): float(number) for state, number in counts.by_state.items()
    }
    yield collector.simple(catalogue.DATABASE_UP, {(): 1.0})
    yield collector.simple(catalogue.HELD, by_state)
    yield collector.simple(catalogue.HELD_OLDEST, {(): counts.oldest})


def no_database() -> Iterator[core.Metric]:
    """The metrics of the hold while the database does not answer."""
    yield collector.simple(catalogue.DATABASE_UP, {(): 0.0})


def read_certificates(conf: cfg.ConfigOpts) -> Iterator[core.Metric]:
    """Return when the certificates of the configuration expire, without those of a trust store."""
    found: dict[catalogue.LabelValues, float] = {}
    for file in certificates.files_of(conf):
        expires = certificates.first_expiry(file)
        if expires is not None:
            found[file.option,] = expires.timestamp()
    yield collector.simple(catalogue.CERTIFICATE_EXPIRY, found)
