"""The hold: events that were answered 200 and are not acknowledged yet.

``store`` keeps them in SQL. ``hold`` is the interface for the routing of batches and limits the time of each
call. ``redelivery`` delivers the events when their hosts respond.
"""
