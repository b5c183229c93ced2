"""Checks of an installation: configuration, broker, databases, Keystone, cells and hosts.

``catalogue`` lists the checks, and ``runner`` runs them. Each other module contains the checks of one
subject. The command ``doctor`` prints the results; other programs can use them too. A check changes
nothing that a service uses, and a failure of a check is a result of this check only.
"""
