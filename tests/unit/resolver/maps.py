"""Host maps in memory."""


class PendingLookup:
    """See ``host_map.guarded.PendingLookup``."""

    def __init__(self, result, *, is_ready):
        self.result = result
        self.is_ready = is_ready

    def wait_until(self, deadline):
        return True


class BeginsAtOnce:
    """Adds ``begin`` to a host map with ``lookup``: it calls the function that it is given at once."""

    includes_held_servers = False

    def begin(self, server_uuids, *, timeout=None, then=None):
        found = self.lookup(server_uuids, timeout=timeout)
        if then is not None:
            then(found)
        return PendingLookup(lambda: found, is_ready=then is None)
