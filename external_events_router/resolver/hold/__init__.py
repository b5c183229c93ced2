"""The hold: events that were answered 200 and are not yet acknowledged.

``store`` keeps them in SQL, ``keeper`` stands between it and the way of a batch
and bounds the waiting, ``courier`` delivers them when their hosts are there.
"""
