"""The admin API in one process with the router of a test, for callers with any role."""

from __future__ import annotations

import json

from falcon import testing
import fixtures

from external_events_router.admin import app
from external_events_router.admin import services
from external_events_router.operations import journal

PREFIX = '/admin/v1'

#: Projects in the domain ``default``: one of the operators, and one of a customer.
OPERATORS = {'HTTP_X_PROJECT_ID': 'a' * 32, 'HTTP_X_PROJECT_NAME': 'admin'}
CUSTOMER = {'HTTP_X_PROJECT_ID': 'c' * 32, 'HTTP_X_PROJECT_NAME': 'customer'}


class Admin(fixtures.Fixture):
    """The application, and requests to it.

    :ivar app: the WSGI application
    """

    def __init__(self, router):
        """:param router: see ``fixtures.Router`` of the functional tests"""
        self._router = router

    def _setUp(self):
        database = self._router.database
        self.services = services.Services(self._router.conf, database, journal.Journal(database))
        self.identity = {}
        self.be('admin')
        self.app = app.make_app(self._router.conf, self.services, authenticate=self._authenticate)

    def _authenticate(self, application):
        def authenticate(environ, start_response):
            environ.update(self.identity)
            return application(environ, start_response)

        return authenticate

    def be(self, *roles, user='alice', project=OPERATORS):
        """Send the next requests as this user."""
        self.identity = {
            'HTTP_X_IDENTITY_STATUS': 'Confirmed',
            'HTTP_X_USER_ID': f'id-of-{user}',
            'HTTP_X_USER_NAME': user,
            'HTTP_X_PROJECT_DOMAIN_ID': 'default',
            'HTTP_X_ROLES': ','.join(roles),
            **project,
        }

    def request(self, method, path, body=None, *, headers=None, **query):
        """Send a request.

        :param path: below the prefix, or a whole path with a query
        :returns: ``falcon.testing.Result``
        """
        path, _, query_string = path.partition('?')
        return testing.simulate_request(
            self.app,
            method,
            path if path.startswith('/admin') else PREFIX + path,
            params=query or None,
            query_string=query_string or None,
            headers={**({'Content-Type': 'application/json'} if body is not None else {}), **(headers or {})},
            body=None if body is None else json.dumps(body),
        )

    def get(self, path, **query):
        """Read an object, which must exist."""
        result = self.request('GET', path, **query)
        assert result.status_code == 200, (result.status_code, result.text)
        return result.json

    def pages(self, path, name, **query):
        """Read a list page by page; return its objects and the number of pages."""
        found, pages = [], 0
        document = self.get(path, **query)
        while True:
            found += document[name]
            pages += 1
            if not document['links']:
                return found, pages
            document = self.get(document['links'][0]['href'])
