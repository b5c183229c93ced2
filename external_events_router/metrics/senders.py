"""Finds the service that sent an event, by the name of the event and by the name of the user."""

from __future__ import annotations

from collections.abc import Mapping

from external_events_router.metrics import catalogue

#: Parts of user names that several senders share: they often use the service user of Nova, because they
#: called Nova's API before, and without authentication all requests have the same user.
SHARED_USERS = ('nova', 'noauth')


class Senders:
    """Finds the sender. Thread-safe."""

    def __init__(self, by_user: Mapping[str, str]) -> None:
        """:param by_user: user name to one of ``catalogue.SENDERS``"""
        self._by_user = by_user

    def sender_of(self, event_name: str, user: str | None) -> str:
        """Return one of ``catalogue.SENDERS``.

        A user whose name contains the name of no service is an operator. An event of an operator does not
        show that a service works.

        :param user: the name of the user; None: not known
        """
        if user is not None and user in self._by_user:
            return self._by_user[user]
        lower = (user or '').lower()
        for sender in catalogue.SENDERS:
            if sender != catalogue.OTHER and sender in lower:
                return sender
        if not lower or any(shared in lower for shared in SHARED_USERS):
            return catalogue.SENDER_OF_NAME.get(event_name, catalogue.OTHER)
        return catalogue.OTHER
