"""The checks of ``doctor``, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
from typing import Any

from oslo_config import cfg

from external_events_router.doctor import base
from external_events_router.doctor import catalogue
from external_events_router.doctor import keystone
from external_events_router.doctor import runner


def run(
    conf: cfg.ConfigOpts,
    checks: Sequence[base.Check] | None = None,
    *,
    service: str = base.API,
    senders: Sequence[str] = keystone.SENDERS,
    host: str | None = None,
) -> tuple[base.Status, list[dict[str, Any]]]:
    """Run the checks of a service.

    :param checks: None: all that are useful for the service
    :param senders: names of the Keystone users that send events
    :param host: of the agent; None: the configured hosts
    :returns: the worst status, and the results in the order of the checks
    """
    selected = catalogue.checks_for(service) if checks is None else checks
    site = base.Site(conf, service=service, senders=senders, host=host)
    with contextlib.closing(site):
        reports = runner.run(selected, site)
    return runner.worst(reports), [
        {
            'status': report.result.status.name,
            'check': report.name,
            'evidence': report.result.evidence,
            'remedy': report.result.remedy,
        }
        for report in reports
    ]
