"""The operations of operators: reading events and hosts, and changing held events and the host map.

Each operation takes a database or a client and plain arguments, and returns plain data. The command
``external-events-manage`` and the admin API call the same functions, so both have the same filters,
checks and results. This package writes nothing to a terminal and knows no HTTP.
"""
