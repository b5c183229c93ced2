"""The HTTP servers of the API, each with the application and a resolver that answers at once.

Run as a process of its own, without a broker and a database::

    python -m tests.integration.http_servers granian 8790

Tokens are validated by keystonemiddleware, whose Keystone is replaced by a function: the
token ``service`` has the role ``service``, ``reader`` has ``reader``, all others are invalid.
"""

import contextlib
import functools
import sys
import threading
from unittest import mock

from keystonemiddleware.auth_token import _exceptions as ksm_exceptions

from external_events_router.api import app
from external_events_router.api import auth
from external_events_router.cmd import all_in_one
from external_events_router.cmd import api
from external_events_router.conf import opts
from tests.unit.api import client
from tests.unit.api import test_auth

OPTIONS = {
    'keystone_authtoken__auth_type': 'password',
    'keystone_authtoken__auth_url': 'http://keystone.test',
    'keystone_authtoken__www_authenticate_uri': 'http://keystone.test',
    'api__workers': 1,
    'api__idle_timeout': 3,
    'api__request_timeout': 2,
    'delivery__ack_timeout': 1,
}


def verify_token(_self, token, **_kwargs):
    """Stands for Keystone."""
    if token not in ('service', 'reader'):
        raise ksm_exceptions.InvalidToken('no such token')
    data = test_auth.token_data()
    data['roles'] = [{'id': 'a-role', 'name': token}]
    return {'token': data}


def make_app(conf):
    """The application; its resolver delivers everything that the map of the tests knows."""
    mock.patch('keystonemiddleware.auth_token._identity.IdentityServer.verify_token', verify_token).start()
    return app.make_app(conf, client.Resolver(), authenticate=auth.from_conf(conf))


def load(port, *, worker, heartbeats):
    """The application in a worker process of granian."""
    heartbeats.begin(worker, lambda: True)
    return make_app(client.make_conf(**OPTIONS, api__bind_port=port))


def main(server, port):
    opts.set_library_defaults()
    conf = client.make_conf(**OPTIONS, api__bind_port=port)
    if server == 'granian':
        api.multiprocessing.set_start_method('spawn', force=True)
        made = api.make_server(conf, '127.0.0.1')
        made.serve(target_loader=functools.partial(load, port), wrap_loader=False)
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(all_in_one.running_api(conf, make_app(conf)))
        threading.Event().wait()


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
