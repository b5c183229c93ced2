"""Collaborators that raise exceptions chosen by hypothesis, and conditions that hold in spite of them."""

import collections


class Unexpected(Exception):
    """The exception that a collaborator raises."""


class Faults:
    """Raises exceptions in the calls that hypothesis chooses, up to a maximum number."""

    def __init__(self, data, strategies, *, at_most=6):
        self._data = data
        self._booleans = strategies.booleans()
        self._left = at_most

    def step(self, name):
        """A call of a collaborator, which may raise an exception."""
        if self._left and self._data.draw(self._booleans, label=f'{name} raises'):
            self._left -= 1
            raise Unexpected(name)

    def choose(self, name):
        """Choose whether something else happens; the number is bounded like the number of exceptions."""
        if self._left and self._data.draw(self._booleans, label=name):
            self._left -= 1
            return True
        return False

    def stop(self):
        """Raise no more."""
        self._left = 0


class Results:
    """Counts the results that were reported for each item; reporting may raise an exception, too."""

    def __init__(self, faults):
        self.times = collections.Counter()
        self.errors = {}
        self._faults = faults

    def note(self, item, error=None):
        self.times[item] += 1
        self.errors[item] = error
        self._faults.step(f'the callback of {item}')
