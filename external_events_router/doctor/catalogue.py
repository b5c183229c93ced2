"""All checks, in the order of their results."""

from __future__ import annotations

from collections.abc import Sequence

from external_events_router.doctor import base
from external_events_router.doctor import broker
from external_events_router.doctor import canary
from external_events_router.doctor import configuration
from external_events_router.doctor import databases
from external_events_router.doctor import hosts
from external_events_router.doctor import keystone
from external_events_router.doctor import machine
from external_events_router.doctor import nova
from external_events_router.doctor import queues

#: All checks, in the order of their results.
CHECKS: Sequence[base.Check] = (
    *configuration.CHECKS,
    *machine.CHECKS,
    *broker.CHECKS,
    *queues.CHECKS,
    *databases.CHECKS,
    *keystone.CHECKS,
    *nova.CHECKS,
    *hosts.CHECKS,
    *canary.CHECKS,
)


def checks_for(service: str) -> list[base.Check]:
    """Return the checks of a service.

    :param service: one of :data:`base.SERVICES`
    """
    return [check for check in CHECKS if service in check.services]
