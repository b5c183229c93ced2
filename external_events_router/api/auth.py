"""Who the caller is: WSGI filters that put a validated identity into the environment.

``keystone`` validates tokens by keystonemiddleware, ``noauth`` takes everybody
for the service. What the caller may do is not decided here (see ``policies``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import re
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystonemiddleware import auth_token
from oslo_config import cfg
from oslo_log import log

from external_events_router import exceptions

LOG = log.getLogger(__name__)

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Filter = Callable[[WSGIApp], WSGIApp]

GROUP = 'keystone_authtoken'

#: The caller of every request under ``noauth``, but for the project of a path.
NOAUTH_IDENTITY = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'noauth',
    'HTTP_X_USER_NAME': 'noauth',
    'HTTP_X_PROJECT_ID': 'noauth',
    'HTTP_X_ROLES': 'service',
}

#: Headers by which a request could claim to be somebody; auth_token drops them too.
_CLAIMS = re.compile(
    'HTTP_(?:X_(?:AUTH_TOKEN|USER|PROJECT|DOMAIN|TENANT|ROLE|SERVICE_|IDENTITY|IS_ADMIN)|OPENSTACK_SYSTEM)'
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
        for key in [key for key in environ if _CLAIMS.match(key)]:
            del environ[key]
        environ.update(NOAUTH_IDENTITY)
        if match := _PROJECT.match(environ['PATH_INFO']):
            environ['HTTP_X_PROJECT_ID'] = match[1]
        return app(environ, start_response)

    return authenticate


def keystone(conf: cfg.ConfigOpts) -> Filter:
    """Have tokens validated by keystonemiddleware, as ``[keystone_authtoken]`` says.

    :raises ConfigurationError: the section does not say how to ask Keystone
    """

    # NOTE: without a plug-in the middleware starts, and then fails at every
    # request, those without a token too.
    _check_plugin(conf)

    def wrap(app: WSGIApp) -> WSGIApp:
        filtered: WSGIApp = auth_token.AuthProtocol(app, {'oslo_config_config': conf})
        return filtered

    return wrap


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
