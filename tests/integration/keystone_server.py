"""Keystone's own application on cheroot: run by the Python that Keystone is installed for.

Not part of the tests' own environment. Writes a line per request, method, path
and status, to standard output, which is how tests count them::

    python keystone_server.py PORT [CERTIFICATE KEY]

Keystone finds its configuration by ``OS_KEYSTONE_CONFIG_FILES``.
"""

import sys

from cheroot import wsgi
from cheroot.ssl import builtin


def counted(application):
    def serve(environ, start_response):
        def respond(status, *args, **kwargs):
            print('REQUEST', environ['REQUEST_METHOD'], environ['PATH_INFO'], status[:3], flush=True)
            return start_response(status, *args, **kwargs)

        return application(environ, respond)

    return serve


def main(port, certificate=None, key=None):
    # NOTE: Keystone would take our arguments for its own.
    del sys.argv[1:]
    from keystone.wsgi import api

    server = wsgi.Server(('127.0.0.1', int(port)), counted(api.application), numthreads=8)
    if certificate:
        server.ssl_adapter = builtin.BuiltinSSLAdapter(certificate, key)
    server.safe_start()


if __name__ == '__main__':
    main(*sys.argv[1:])
