"""Delivery to the software on the compute hosts: one package for each kind of software."""
