"""nova-compute, over the message broker of each cell."""

from __future__ import annotations

from oslo_config import cfg

from external_events_router.resolver.drivers import base
from external_events_router.resolver.drivers.nova import cell_client
from external_events_router.resolver.drivers.nova import deliverer


class NovaDriver:
    """See ``drivers.base.Driver``."""

    def __init__(self, cells: cell_client.CellClients, *, reply_timeout: float | None) -> None:
        """:param reply_timeout: see :class:`deliverer.NovaDeliverer`"""
        self._cells = cells
        self._reply_timeout = reply_timeout
        self.rounds: base.Rounds | None = None
        self.queues: base.Queues | None = None
        self.tokens: base.TokenSender | None = None

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> NovaDriver:
        """Build the driver that the configuration describes."""
        replies = conf.nova.acknowledge == 'reply'
        return cls(cell_client.CellClients(conf), reply_timeout=conf.nova.reply_timeout if replies else None)

    def deliverer(self, name: str, observer: base.HostObserver) -> base.Deliverer:
        """See ``drivers.base.Driver``."""
        return deliverer.NovaDeliverer(self._cells, observer, reply_timeout=self._reply_timeout)
