"""Sphinx: the documentation. Built from a clone or from a plain folder, without a network."""

import importlib.metadata

project = 'external-events-router'
copyright = 'the external-events-router authors, Apache License 2.0'
release = importlib.metadata.version(project)

extensions = [
    'oslo_config.sphinxext',
    'oslo_policy.sphinxext',
]

html_theme = 'alabaster'
html_theme_options = {
    'description': 'OpenStack server external events, acknowledged',
    'fixed_sidebar': True,
    'page_width': '1100px',
}
html_sidebars = {'**': ['about.html', 'searchfield.html', 'navigation.html']}
html_show_sourcelink = False

exclude_patterns = []
nitpicky = False
