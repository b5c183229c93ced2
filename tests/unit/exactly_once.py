"""Collaborators that raise when hypothesis says so, and what has to hold all the same."""

import collections


class Surprise(Exception):
    """What a collaborator raises."""


class Faults:
    """Raises at the calls that hypothesis chooses, up to a number of them."""

    def __init__(self, data, strategies, *, at_most=6):
        self._data = data
        self._booleans = strategies.booleans()
        self._left = at_most

    def step(self, name):
        """A call of a collaborator, which may raise."""
        if self._left and self._data.draw(self._booleans, label=f'{name} raises'):
            self._left -= 1
            raise Surprise(name)

    def choose(self, name):
        """Whether something happens that is no exception; as bounded as those."""
        if self._left and self._data.draw(self._booleans, label=name):
            self._left -= 1
            return True
        return False

    def stop(self):
        """Raise no more."""
        self._left = 0


class Told:
    """Counts how often the result of each item was told; telling may raise, too."""

    def __init__(self, faults):
        self.times = collections.Counter()
        self.errors = {}
        self._faults = faults

    def note(self, item, error=None):
        self.times[item] += 1
        self.errors[item] = error
        self._faults.step(f'the callback of {item}')
