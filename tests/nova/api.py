"""Run with Nova's interpreter: Nova's own compute API, with the identity that the test chooses.

``api.py PORT``; the folder of its configuration is in ``OS_NOVA_CONFIG_DIR``. Its pipeline
is Nova's, with :class:`Caller` in place of keystonemiddleware.
"""

import socketserver
import sys
from wsgiref import simple_server

IDENTITY = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'noauth',
    'HTTP_X_USER_NAME': 'noauth',
    'HTTP_X_PROJECT_ID': 'noauth',
    'HTTP_X_ROLES': 'service,admin',
}


class Caller:
    """Every caller is a service."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        environ.update(IDENTITY)
        return self.app(environ, start_response)


def filter_factory(global_conf, **local_conf):
    return Caller


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


def main():
    port = int(sys.argv[1])
    # The name of this module in the configuration of the pipeline.
    sys.modules['nova_api_caller'] = sys.modules['__main__']
    sys.argv = ['nova-api-os-compute']
    from nova.wsgi.osapi_compute import application

    server = simple_server.make_server('127.0.0.1', port, application, server_class=Server)
    print('serving', flush=True)
    server.serve_forever()


if __name__ == '__main__':
    main()
