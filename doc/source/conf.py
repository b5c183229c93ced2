"""Sphinx: the documentation. Built from a clone or from a plain folder, without a network."""

import importlib.metadata
import json
import pathlib

from external_events_router.admin import openapi as admin_openapi
from external_events_router.api import openapi

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

# The description of the API, as the service serves it; at the root of the pages.
generated = pathlib.Path(__file__).parent.parent / 'build' / 'generated'
generated.mkdir(parents=True, exist_ok=True)
(generated / 'openapi.json').write_text(json.dumps(openapi.document(), indent=2) + '\n')
(generated / 'admin-openapi.json').write_text(json.dumps(admin_openapi.document(), indent=2) + '\n')
html_extra_path = [str(generated)]
html_static_path = ['_static']

exclude_patterns = []
nitpicky = False
