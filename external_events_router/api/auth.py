"""WSGI filters that put the validated identity of the caller into the environment.

``keystone`` validates tokens with keystonemiddleware. ``noauth`` gives every caller the role service.
``policies`` decides about permissions, and ``token_cache`` caches validated tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import ipaddress
import math
import re
import socket
import time
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystoneauth1 import session
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _exceptions as ksm_exceptions
from oslo_config import cfg
from oslo_log import log
import webob.exc

from external_events_router import exceptions
from external_events_router.api import faults
from external_events_router.api import token_cache
from external_events_router.conf import opts
from external_events_router.process import parts

LOG = log.getLogger(__name__)

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Filter = Callable[[WSGIApp], WSGIApp]

GROUP = 'keystone_authtoken'

#: Key of the WSGI environment where the middleware finds the token cache of this service; its
#: option ``cache`` names the key.
CACHE_KEY = 'external_events_router.token_cache'

#: Maximum seconds of one request to Keystone, and number of retries. The defaults of the
#: middleware are: no limit, and 3 attempts.
CONNECT_TIMEOUT = 3
MAX_RETRIES = 1

#: Seconds for which a failure of Keystone makes ``/readiness`` answer ``degraded``.
FAILURE_AGE = 30.0

#: Maximum characters of a token; a longer token is not valid. Fernet and JWS tokens have a few
#: hundred. The web server of Keystone answers 400 or 431 with HTML to a longer header.
MAX_TOKEN_LENGTH = 8192

#: The characters of a token: printable ASCII without spaces.
_TOKEN = re.compile('[!-~]+')

#: The caller of every request with ``noauth``. The path can replace the project.
NOAUTH_IDENTITY = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'noauth',
    'HTTP_X_USER_NAME': 'noauth',
    'HTTP_X_PROJECT_ID': 'noauth',
    'HTTP_X_ROLES': 'service',
}

#: Prefixes of headers that claim an identity. auth_token removes them too.
_CLAIMS = (
    'HTTP_X_AUTH_TOKEN',
    'HTTP_X_USER',
    'HTTP_X_PROJECT',
    'HTTP_X_DOMAIN',
    'HTTP_X_TENANT',
    'HTTP_X_ROLE',
    'HTTP_X_SERVICE_',
    'HTTP_X_IDENTITY',
    'HTTP_X_IS_ADMIN',
    'HTTP_OPENSTACK_SYSTEM',
)
_PROJECT = re.compile('/v2(?:[.]1)?/([0-9a-f-]+)/')


def from_conf(conf: cfg.ConfigOpts) -> Filter:
    """Return the filter for ``[api] auth_strategy``.

    :raises ConfigurationError: an option that ``keystone`` needs is missing
    """
    if conf.api.auth_strategy == 'noauth':
        LOG.warning(
            '[api] auth_strategy is noauth: every client has the role service, without a token. Any client '
            'that reaches the port can send events to every server. Use keystone in production.'
        )
        return noauth
    return keystone(conf)


def noauth(app: WSGIApp) -> WSGIApp:
    """Give every caller the role service, in the project of the path."""

    def authenticate(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        remove_claims(environ)
        environ.update(NOAUTH_IDENTITY)
        if match := _PROJECT.match(environ['PATH_INFO']):
            environ['HTTP_X_PROJECT_ID'] = match[1]
        return app(environ, start_response)

    return authenticate


def remove_claims(environ: dict[str, Any]) -> None:
    """Remove all headers that claim an identity from a WSGI environment."""
    for key in [key for key in environ if key.startswith(_CLAIMS)]:
        del environ[key]


def is_open(conf: cfg.ConfigOpts) -> bool:
    """Return whether clients on other machines could reach the port without a token."""
    return conf.api.auth_strategy == 'noauth' and not is_loopback(conf.api.bind_host)


def open_warning(conf: cfg.ConfigOpts) -> str:
    """Return the WARNING that is logged at each start if :func:`is_open` returns True."""
    return (
        f'[api] auth_strategy is noauth and [api] bind_host is {conf.api.bind_host}, which is not a loopback '
        'address: any client that reaches the port can send events to every server. Use keystone, or bind '
        'to 127.0.0.1 behind a proxy that authenticates its clients'
    )


def is_loopback(host: str) -> bool:
    """Return whether all addresses of a host name or address are loopback addresses."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    # NOTE: these addresses have no IPv6 zone, which ip_address of Python 3.11 would accept.
    return all(ipaddress.ip_address(str(address[4][0])).is_loopback for address in found)


def keystone(conf: cfg.ConfigOpts) -> Filter:
    """Validate tokens with keystonemiddleware, as configured in ``[keystone_authtoken]``.

    :raises ConfigurationError: the section lacks an option for access to Keystone
    """
    set_middleware_defaults()
    # NOTE: without an auth plug-in the middleware starts, but then every request fails, also
    # requests without a token.
    check_plugin(conf)

    for group, options in auth_token.list_opts():
        conf.register_opts(options, group=group)
    overrides = {'cache': CACHE_KEY}
    if conf[GROUP].service_type:
        # NOTE: with this option, the access rules of an application credential are compared with
        # the catalog of its token.
        overrides['include_service_catalog'] = 'true'

    def wrap(app: WSGIApp) -> WSGIApp:
        tokens = Tokens(app, {**overrides, 'oslo_config_config': conf})
        parts.ALL.add(parts.Kind.KEYSTONE, tokens, Tokens.status)
        if conf[GROUP].memcached_servers:
            return tokens
        return _remember(tokens, token_cache.TokenCache(conf.api.token_cache_size))

    return wrap


def set_middleware_defaults() -> None:
    """Set the defaults of this service for the middleware: time limits, and no catalogs."""
    for _, options in auth_token.AUTH_TOKEN_OPTS:
        cfg.set_defaults(
            options,
            http_connect_timeout=CONNECT_TIMEOUT,
            http_request_max_retries=MAX_RETRIES,
            # NOTE: this service does not read the catalog. With the catalog of a cloud, a cached
            # token takes 0.5 ms instead of 0.17, and 20 kB instead of 0.5.
            include_service_catalog=False,
        )


def set_library_defaults() -> None:
    """Set the defaults of ``conf.opts`` and of the middleware, which other services do not load."""
    opts.set_library_defaults()
    set_middleware_defaults()


def check_service_user(conf: cfg.ConfigOpts) -> None:
    """Log in to Keystone as the service user, and log an ERROR with the remedy if this is not possible.

    :raises ConfigurationError: see :func:`keystone`
    """
    if conf.api.auth_strategy != 'keystone':
        return
    options = conf[GROUP]
    login = session.Session(
        auth=check_plugin(conf),
        verify=(options.cafile or True) if not options.insecure else False,
        cert=(options.certfile, options.keyfile) if options.certfile and options.keyfile else None,
        timeout=CONNECT_TIMEOUT,
    )
    try:
        login.get_token()
    except ksa_exceptions.ClientException as exc:
        LOG.error('%s. Until then, requests with tokens that are not cached get 503', _problem_of(exc))
        LOG.debug('The login to Keystone failed', exc_info=True)


def _problem_of(exc: BaseException) -> str:
    """Return why Keystone does not validate tokens, and the remedy.

    :param exc: an exception of keystoneauth, or an exception that was caused by one
    """
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, ksa_exceptions.ClientException):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ksa_exceptions.Unauthorized):
        return (
            'Keystone refuses the service user: correct username, password, project_name and the domains '
            f'in [{GROUP}]'
        )
    if isinstance(cause, ksa_exceptions.SSLError):
        return f'The certificate of Keystone cannot be verified: set cafile in [{GROUP}]'
    if isinstance(cause, ksa_exceptions.ConnectionError | ksa_exceptions.DiscoveryFailure):
        return (
            f'Keystone cannot be reached ({type(cause).__name__}): check auth_url in [{GROUP}], Keystone '
            'and the network'
        )
    return f'Keystone is unavailable ({type(cause or exc).__name__}): see its log'


class Tokens(auth_token.AuthProtocol):
    """keystonemiddleware with one change: an unavailable Keystone always results in 503 in the API's format.

    The middleware itself answers 500 if a request to Keystone times out or its certificate cannot
    be verified.
    """

    # Instant of time.monotonic() of the last request to Keystone that failed.
    _failed_at = -math.inf

    def status(self) -> parts.Status:
        """Return whether Keystone was available in the last :data:`FAILURE_AGE` s; see ``process.parts``."""
        age = time.monotonic() - self._failed_at
        if age > FAILURE_AGE:
            return parts.Status('keystone')
        return parts.Status('keystone', parts.State.DEGRADED, {'seconds_since_failure': round(age, 1)})

    def fetch_token(self, token: str, **kwargs: Any) -> Any:
        """Return the data of a token, from the cache or from Keystone.

        :raises InvalidToken: the token is malformed, or Keystone does not accept it
        :raises webob.exc.HTTPServiceUnavailable: Keystone is unavailable
        """
        if len(token) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
            # NOTE: called for user and service tokens; the middleware answers 401.
            raise ksm_exceptions.InvalidToken('malformed token')
        try:
            return super().fetch_token(token, **kwargs)
        except ksa_exceptions.ClientException as exc:
            LOG.error('%s. Until then, requests with tokens that are not cached get 503', _problem_of(exc))
            LOG.debug('The request to Keystone failed', exc_info=True)
        except webob.exc.HTTPServiceUnavailable as exc:
            # NOTE: the middleware has logged the text of the error, but neither cause nor remedy.
            LOG.error('%s. Until then, requests with tokens that are not cached get 503', _problem_of(exc))
        self._failed_at = time.monotonic()
        fault = faults.Fault(503, 'The token cannot be validated: Keystone is unavailable. Try again later.')
        raise webob.exc.HTTPServiceUnavailable(body=fault.body(), content_type=faults.CONTENT_TYPE)


def _remember(app: WSGIApp, cache: token_cache.TokenCache) -> WSGIApp:
    def hand_over(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[CACHE_KEY] = cache
        return app(environ, start_response)

    return hand_over


def check_plugin(conf: cfg.ConfigOpts) -> Any:
    """Return the auth plug-in of the service user.

    :raises ConfigurationError: it is not configured, or an option that it needs is missing
    """
    loading.register_auth_conf_options(conf, GROUP)
    try:
        plugin = loading.load_auth_from_conf_options(conf, GROUP)
    except (ksa_exceptions.ClientException, cfg.Error) as exc:
        raise exceptions.ConfigurationError(option=f'[{GROUP}] auth_type', reason=str(exc)) from exc
    if plugin is None:
        raise exceptions.ConfigurationError(
            option=f'[{GROUP}] auth_type',
            reason='is not set, but [api] auth_strategy = keystone needs it to validate tokens',
        )
    return plugin
