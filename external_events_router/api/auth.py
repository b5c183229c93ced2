"""Who the caller is: WSGI filters that put a validated identity into the environment.

``keystone`` validates tokens by keystonemiddleware, ``noauth`` takes everybody
for the service. What the caller may do is not decided here (see ``policies``),
nor what is remembered of a token (see ``token_cache``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import ipaddress
import re
import socket
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from keystonemiddleware.auth_token import _exceptions as ksm_exceptions
from oslo_config import cfg
from oslo_log import log
import webob.exc

from external_events_router import exceptions
from external_events_router.api import faults
from external_events_router.api import token_cache
from external_events_router.conf import opts

LOG = log.getLogger(__name__)

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Filter = Callable[[WSGIApp], WSGIApp]

GROUP = 'keystone_authtoken'

#: Where the middleware looks for our token cache; the key of the environment
#: that its ``cache`` option would name.
CACHE_KEY = 'external_events_router.token_cache'

#: Seconds for one attempt to ask Keystone, and attempts after the first. The
#: middleware's own defaults are no bound and 3.
CONNECT_TIMEOUT = 3
MAX_RETRIES = 1

#: Characters of a token; a longer one is invalid. Fernet and JWS tokens have a few
#: hundred. Keystone's web server answers 400 or 431 to a longer header, with HTML.
MAX_TOKEN_LENGTH = 8192

#: The characters of a token: printable ASCII without spaces.
_TOKEN = re.compile('[!-~]+')

#: The caller of every request under ``noauth``, but for the project of a path.
NOAUTH_IDENTITY = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'noauth',
    'HTTP_X_USER_NAME': 'noauth',
    'HTTP_X_PROJECT_ID': 'noauth',
    'HTTP_X_ROLES': 'service',
}

#: Beginnings of headers by which a request could claim to be somebody; auth_token drops them too.
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
    """The filter that ``[api] auth_strategy`` names.

    :raises ConfigurationError: ``keystone`` lacks what it needs to ask Keystone
    """
    if conf.api.auth_strategy == 'noauth':
        LOG.warning(
            '[api] auth_strategy is noauth: EVERY CALLER IS THE SERVICE ROLE, and nobody is asked for a '
            'token. Whoever reaches this port can send events to any server.'
        )
        return noauth
    return keystone(conf)


def noauth(app: WSGIApp) -> WSGIApp:
    """Take every caller for the service role, in the project that the path names."""

    def authenticate(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        for key in [key for key in environ if key.startswith(_CLAIMS)]:
            del environ[key]
        environ.update(NOAUTH_IDENTITY)
        if match := _PROJECT.match(environ['PATH_INFO']):
            environ['HTTP_X_PROJECT_ID'] = match[1]
        return app(environ, start_response)

    return authenticate


def is_open(conf: cfg.ConfigOpts) -> bool:
    """Whether clients on other machines could reach the port without a token."""
    return conf.api.auth_strategy == 'noauth' and not is_loopback(conf.api.bind_host)


def open_warning(conf: cfg.ConfigOpts) -> str:
    """What the log says at each start where :func:`is_open` holds."""
    return (
        f'[api] auth_strategy is noauth and [api] bind_host is {conf.api.bind_host}, which is not a loopback '
        'address: any client that reaches the port can send events to every server. Use keystone, or bind '
        'to 127.0.0.1 behind a proxy that authenticates its clients'
    )


def is_loopback(host: str) -> bool:
    """Whether all addresses of a host name or an address are addresses of this machine only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    # NOTE: without the zone of an IPv6 address, which Python 3.11's ip_address takes too.
    return all(ipaddress.ip_address(str(address[4][0])).is_loopback for address in found)


def keystone(conf: cfg.ConfigOpts) -> Filter:
    """Have tokens validated by keystonemiddleware, as ``[keystone_authtoken]`` says.

    :raises ConfigurationError: the section does not say how to ask Keystone
    """
    set_middleware_defaults()
    # NOTE: without a plug-in the middleware starts, and then fails at every
    # request, those without a token too.
    _check_plugin(conf)

    for group, options in auth_token.list_opts():
        conf.register_opts(options, group=group)
    overrides = {'cache': CACHE_KEY}
    if conf[GROUP].service_type:
        # NOTE: by then, an application credential's access rules are held
        # against the catalog of its token.
        overrides['include_service_catalog'] = 'true'

    def wrap(app: WSGIApp) -> WSGIApp:
        tokens: WSGIApp = Tokens(app, {**overrides, 'oslo_config_config': conf})
        if conf[GROUP].memcached_servers:
            return tokens
        return _remember(tokens, token_cache.TokenCache(conf.api.token_cache_size))

    return wrap


def set_middleware_defaults() -> None:
    """Our defaults for the middleware: bounds, and no catalogs."""
    for _, options in auth_token.AUTH_TOKEN_OPTS:
        cfg.set_defaults(
            options,
            http_connect_timeout=CONNECT_TIMEOUT,
            http_request_max_retries=MAX_RETRIES,
            # NOTE: nothing here reads it, and with that of a cloud a cached
            # token costs 0.5 ms in place of 0.17, and 20 kB in place of 0.5.
            include_service_catalog=False,
        )


def set_library_defaults() -> None:
    """As ``conf.opts``, and those of the middleware, which the other services do not load."""
    opts.set_library_defaults()
    set_middleware_defaults()


class Tokens(auth_token.AuthProtocol):
    """keystonemiddleware, but for a Keystone that does not answer.

    That is 503 in the API's form, whichever way it fails: the middleware's own
    way makes a 500 of a timeout or a certificate that cannot be verified.
    """

    def fetch_token(self, token: str, **kwargs: Any) -> Any:
        """What Keystone says of a token, from the cache if it is there.

        :raises InvalidToken: it cannot be a token, and Keystone was not asked; or Keystone said so
        :raises webob.exc.HTTPServiceUnavailable: Keystone could not be asked
        """
        if len(token) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(token):
            # NOTE: user and service tokens both come here; the middleware answers 401.
            raise ksm_exceptions.InvalidToken('malformed token')
        try:
            return super().fetch_token(token, **kwargs)
        except ksa_exceptions.ClientException as exc:
            LOG.error('Keystone could not be asked: %s', type(exc).__name__)
            LOG.debug('because of', exc_info=True)
        except webob.exc.HTTPServiceUnavailable:
            # NOTE: the middleware has logged why.
            pass
        fault = faults.Fault(503, 'The token cannot be validated now: Keystone does not answer.')
        raise webob.exc.HTTPServiceUnavailable(body=fault.body(), content_type=faults.CONTENT_TYPE)


def _remember(app: WSGIApp, cache: token_cache.TokenCache) -> WSGIApp:
    def hand_over(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[CACHE_KEY] = cache
        return app(environ, start_response)

    return hand_over


def _check_plugin(conf: cfg.ConfigOpts) -> None:
    loading.register_auth_conf_options(conf, GROUP)
    try:
        plugin = loading.load_auth_from_conf_options(conf, GROUP)
    except (ksa_exceptions.ClientException, cfg.Error) as exc:
        raise exceptions.ConfigurationError(option=f'[{GROUP}] auth_type', reason=str(exc)) from exc
    if plugin is None:
        raise exceptions.ConfigurationError(
            option=f'[{GROUP}] auth_type',
            reason='not set, but [api] auth_strategy = keystone needs it to validate tokens',
        )
