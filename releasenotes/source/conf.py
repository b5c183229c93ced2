"""Sphinx: the release notes, which reno collects from the history."""

import pathlib

project = 'external-events-router release notes'
copyright = 'the external-events-router authors, Apache License 2.0'
html_theme = 'alabaster'
html_show_sourcelink = False

extensions = ['reno.sphinxext']

# NOTE: reno reads the history. In a plain folder there is none, and the page
# that asks for it is left out; index.rst says where the notes are.
if not (pathlib.Path(__file__).parents[2] / '.git').exists():
    extensions = []
    exclude_patterns = ['unreleased.rst']
