"""The faults by name: what each touches, and for how long it lasts in either form.

What a fault does is in ``on_broker``, ``on_processes``, ``on_database`` and
``on_network``; each is a function of a ``site`` and a :class:`SlowHostLimiter`, and returns
once what it broke is put back. What comes of it is looked at in ``run``.
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


class Pace:
    """How long things stay broken: as in production, or just long enough."""

    def __init__(self, *, short):
        self.short = short
        self._never = threading.Event()

    def last(self, seconds, *, short):
        """Leave it as it is for a while.

        :param seconds: of the long form
        :param short: of the short form
        """
        self._never.wait(short if self.short else seconds)

    def times(self, number, *, short):
        """How often to repeat something."""
        return range(short if self.short else number)


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks.

    :ivar text: what happens, for the table
    :ivar touches: what nothing else may break at the same time
    :ivar in_short: it is part of the short form
    :ivar databases: with which it can happen
    :ivar broker: to which it happens, a single node or a cluster
    :ivar breaks_database: an event may be answered 503 meanwhile, because it cannot be held
    :ivar recovers: seconds after the fault within which all must be well again; None: the patience of the run
    """

    name: str
    text: str
    touches: frozenset[str]
    act: Callable
    in_short: bool
    databases: Collection[str] = DATABASES
    broker: str = SINGLE
    breaks_database: bool = False
    recovers: float | None = None


FAULTS: dict[str, Fault] = {}


def fault(name, *, touches, in_short=False, **properties):
    """Register a function as a fault; the first line of its docstring describes it.

    :param properties: other attributes of :class:`Fault`
    """

    def register(act):
        text = act.__doc__.splitlines()[0].rstrip('.')
        FAULTS[name] = Fault(name, text, frozenset(touches.split()), act, in_short, **properties)
        return act

    return register


#: Pairs that meet in the field, or that hit the hold where it hurts. They touch
#: different things: what is put back twice would be there twice.
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
