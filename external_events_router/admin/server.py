"""The HTTP server of the admin API: one process with a limited number of threads."""

from __future__ import annotations

from collections.abc import Callable
import pathlib
import ssl
import threading

from cheroot import wsgi
from cheroot.ssl import builtin
from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.admin import app
from external_events_router.admin import services
from external_events_router.api import connections
from external_events_router.api import embedded_server
from external_events_router.process import essential

#: Seconds that running requests have to finish when the server stops; a request that waits for new
#: events is closed then.
STOP_TIMEOUT = 10

#: Seconds that a request may take: it waits for new events for up to 30 s, or sends events again for 60 s.
LONGEST_REQUEST = 120.0

#: Maximum number of open connections.
MAX_CONNECTIONS = 256


class AdminServer:
    """The server and its threads.

    :ivar url: URL of the admin API
    """

    def __init__(self, server: wsgi.Server, shared: services.Services, reaper: connections.ConnectionReaper):
        """:param shared: closed at the end"""
        self._server = server
        self._shared = shared
        self._reaper = reaper
        self._stopped = threading.Event()
        self._thread = essential.EssentialThread(server.serve, name='admin', is_stopped=self._stopped.is_set)
        self.url = ''

    @classmethod
    def from_conf(
        cls, conf: cfg.ConfigOpts, *, unhealthy: Callable[[], str | None] = lambda: None
    ) -> AdminServer:
        """Build the server of ``[admin]``.

        :param unhealthy: returns why ``/healthcheck`` has to answer 503; None: it answers 200
        :raises ConfigurationError: an option is not valid, or a database is unavailable
        """
        shared = services.Services.from_conf(conf)
        try:
            made = embedded_server.make_server(
                conf,
                app.make_app(conf, shared, unhealthy=unhealthy),
                shutdown_timeout=STOP_TIMEOUT,
                address=(conf.admin.bind_host, conf.admin.bind_port),
                threads=conf.admin.threads,
            )
            made.ssl_adapter = _tls(conf)
        except exceptions.RouterError:
            shared.close()
            raise
        return cls(made, shared, _reaper(conf))

    def start(self) -> None:
        """Listen, and answer requests on threads.

        :raises ConfigurationError: the server cannot listen on the address
        """
        try:
            self._server.prepare()
        except OSError as exc:
            self._shared.close()
            raise exceptions.ConfigurationError(
                option='[admin] bind_host, bind_port', reason=str(exc)
            ) from exc
        host, port = self._server.bind_addr[:2]
        scheme = 'https' if self._server.ssl_adapter else 'http'
        self.url = f'{scheme}://{f"[{host}]" if ":" in host else host}:{port}'
        self._thread.start()
        self._reaper.start()

    def stop(self) -> None:
        """Finish the running requests, and stop."""
        self._reaper.stop()
        self._stopped.set()
        self._server.stop()
        self._thread.join()
        self._shared.close()


def _reaper(conf: cfg.ConfigOpts) -> connections.ConnectionReaper:
    limits = connections.Timeouts(
        idle=conf.api.idle_timeout + connections.INTERVAL,
        idle_when_short=connections.WHEN_SHORT,
        asking=LONGEST_REQUEST,
        asking_when_short=LONGEST_REQUEST,
        sending_when_short=connections.WHEN_SHORT,
        stuck=conf.api.request_timeout,
    )
    return connections.ConnectionReaper(conf.admin.bind_port, limits, places=MAX_CONNECTIONS)


def _tls(conf: cfg.ConfigOpts) -> builtin.BuiltinSSLAdapter | None:
    """Return the TLS adapter for the server; None: it uses plain HTTP.

    :raises ConfigurationError: with the option whose file is missing or not valid
    """
    certificate, key = conf.admin.tls_cert_file, conf.admin.tls_key_file
    if not (certificate or key):
        return None
    for name, file in (('tls_cert_file', certificate), ('tls_key_file', key)):
        if not file or not pathlib.Path(file).is_file():
            reason = f'{file} is not a file' if file else 'is not set; set both files for HTTPS, or neither'
            raise exceptions.ConfigurationError(option=f'[admin] {name}', reason=reason)
    try:
        # NOTE: without a password, OpenSSL would ask for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password='')
        adapter = builtin.BuiltinSSLAdapter(certificate, key)
    except (OSError, ValueError) as exc:
        raise exceptions.ConfigurationError(
            option='[admin] tls_key_file',
            reason=f'is encrypted, or does not belong to tls_cert_file: {exc}',
        ) from exc
    adapter.context.minimum_version = ssl.TLSVersion.TLSv1_2
    return adapter
