"""Metrics for Prometheus: counted in files, one set per process slot, and served by one process.

* ``recorder`` is the interface that the services call. Without ``[metrics] bind_port`` it does nothing.
* ``catalogue`` defines every metric.
* ``files`` and ``values`` store the values of a process.
* ``collector``, ``processes`` and ``exporter`` read the files of all processes and serve them.
* ``setup`` builds these objects for a process.
"""
