"""Loading of plug-ins by name, with an error that names the option.

Imports only stevedore. The module that uses a plug-in describes its interface.
"""

from __future__ import annotations

from typing import Any

import stevedore
from stevedore import exception as stevedore_exception

from external_events_router import exceptions


def load(namespace: str, name: str, *, option: str) -> Any:
    """Return the object of an entry point.

    :param namespace: group of the entry points
    :param option: option that contains the name, for the error
    :raises ConfigurationError: the name is unknown, or the plug-in cannot be loaded
    """
    try:
        return stevedore.DriverManager(namespace, name, on_missing_entrypoints_callback=None).driver
    except stevedore_exception.NoMatches as exc:
        known = ', '.join(sorted(stevedore.ExtensionManager(namespace).entry_points_names()))
        reason = f'unknown value {name!r}; use one of: {known}'
        raise exceptions.ConfigurationError(option=option, reason=reason) from exc
    except (ImportError, AttributeError) as exc:
        reason = f'{name!r} cannot be loaded: {exc}'
        raise exceptions.ConfigurationError(option=option, reason=reason) from exc
