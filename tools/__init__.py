"""Generators of files in the tree."""
