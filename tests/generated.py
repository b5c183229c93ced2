"""Settings for the tests whose input hypothesis generates.

The examples are the same in each run, and no time limit applies to an example, so a loaded machine
cannot fail a test. ``tests.base`` loads the settings as the default of all tests.

``EER_FUZZ_EXAMPLES`` multiplies the number of examples, ``EER_FUZZ_SEED`` replaces the fixed
sequence by the sequence of this seed.
"""

from __future__ import annotations

from collections.abc import Callable
import os
from typing import Any

import hypothesis

_SEED = os.environ.get('EER_FUZZ_SEED')
_FACTOR = int(os.environ.get('EER_FUZZ_EXAMPLES', '1'))

#: Examples of a test that does not set their number.
EXAMPLES = 50

hypothesis.settings.register_profile(
    'tests',
    max_examples=EXAMPLES * _FACTOR,
    derandomize=_SEED is None,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)


def load_profile() -> None:
    """Make these settings the default of the process."""
    hypothesis.settings.load_profile('tests')


def examples(number: int = EXAMPLES, **changes: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the decorator for a test with so many examples.

    :param changes: other settings of hypothesis
    """
    profile = hypothesis.settings.get_profile('tests')
    settings = hypothesis.settings(profile, max_examples=number * _FACTOR, **changes)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        return settings(test if _SEED is None else hypothesis.seed(int(_SEED))(test))

    return decorate
