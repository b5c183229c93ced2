"""Sphinx: the release notes, which reno collects from the history."""

import pathlib

from docutils import nodes
from docutils.parsers import rst

project = 'external-events-router release notes'
copyright = 'the external-events-router authors, Apache License 2.0'
html_theme = 'alabaster'
html_show_sourcelink = False

HAS_HISTORY = (pathlib.Path(__file__).parents[2] / '.git').exists()

extensions = ['reno.sphinxext'] if HAS_HISTORY else []


class NoHistory(rst.Directive):
    """In place of reno's directive in a plain folder."""

    def run(self) -> list[nodes.Node]:
        text = 'This copy of the source has no history; its notes are the files in releasenotes/notes.'
        return [nodes.paragraph(text=text)]


def setup(app) -> None:
    if not HAS_HISTORY:
        app.add_directive('release-notes', NoHistory)
