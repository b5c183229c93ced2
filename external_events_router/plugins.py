"""Finding a plug-in by its name, or saying which option named one that is not there.

A leaf on stevedore. What a plug-in has to be is said where it is used.
"""

from __future__ import annotations

from typing import Any

import stevedore
from stevedore import exception as stevedore_exception

from external_events_router import exceptions


def load(namespace: str, name: str, *, option: str) -> Any:
    """What an entry point names.

    :param namespace: group of the entry points
    :param option: the option whose value the name is, for the error
    :raises ConfigurationError: there is none of this name, or it cannot be loaded
    """
    try:
        return stevedore.DriverManager(namespace, name, on_missing_entrypoints_callback=None).driver
    except stevedore_exception.NoMatches as exc:
        known = ', '.join(sorted(stevedore.ExtensionManager(namespace).entry_points_names()))
        reason = f'there is no {name!r}; there are: {known}'
        raise exceptions.ConfigurationError(option=option, reason=reason) from exc
    except (ImportError, AttributeError) as exc:
        reason = f'{name!r} cannot be loaded: {exc}'
        raise exceptions.ConfigurationError(option=option, reason=reason) from exc
