"""The faults by name, with the parts of the service that each affects, and the durations of both forms.

The faults are implemented in ``on_broker``, ``on_processes``, ``on_database`` and
``on_network``. Each is a function of a ``site`` and a :class:`SlowHostLimiter`, and returns
when it has repaired the damage. ``run`` examines the results.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import dataclasses
import threading

#: Kinds of database; see ``database``.
DATABASES = ('mariadb', 'postgresql', 'sqlite')

#: Kinds of broker; see ``broker``.
SINGLE, CLUSTER = 'single', 'cluster'


class Timing:
    """Durations of faults: as in production, or as short as possible."""

    def __init__(self, *, short):
        self.short = short
        self._never = threading.Event()

    def last(self, seconds, *, short):
        """Wait while the fault lasts.

        :param seconds: duration in the long form
        :param short: duration in the short form
        """
        self._never.wait(short if self.short else seconds)

    def times(self, number, *, short):
        """The number of repetitions of a step."""
        return range(short if self.short else number)


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    :ivar text: description for the table
    :ivar affects: parts of the service that no other simultaneous fault may affect
    :ivar in_short: whether it is part of the short form
    :ivar databases: kinds of database with which it is possible
    :ivar broker: kind of broker to which it applies, a single node or a cluster
    :ivar breaks_database: whether an event may be answered 503 meanwhile, because it cannot be held
    :ivar recovers: seconds after the fault until normal operation; None: the patience of the run
    """

    name: str
    text: str
    affects: frozenset[str]
    act: Callable
    in_short: bool
    databases: Collection[str] = DATABASES
    broker: str = SINGLE
    breaks_database: bool = False
    recovers: float | None = None


FAULTS: dict[str, Fault] = {}


def fault(name, *, affects, in_short=False, **properties):
    """Register a function as a fault; the first line of its docstring describes it.

    :param properties: other attributes of :class:`Fault`
    """

    def register(act):
        text = act.__doc__.splitlines()[0].rstrip('.')
        FAULTS[name] = Fault(name, text, frozenset(affects.split()), act, in_short, **properties)
        return act

    return register


#: Pairs that are common in production, or that are difficult for the hold. The faults of a pair
#: affect different parts, because a part cannot be repaired twice.
PAIRS = [
    ('agent-stopped', 'resolver-killed'),
    ('agent-killed', 'broker-killed'),
    ('agent-stopped', 'database-away'),
    ('agent-stopped', 'resolvers-killed'),
    ('broker-killed', 'database-killed'),
    ('network-silent-resolver', 'agent-killed'),
    ('server-moved', 'resolver-killed'),
    ('api-worker-killed', 'resolver-killed'),
]
