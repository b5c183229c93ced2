"""Authentication of the callers of the admin API: the filter of the senders' API, or none on loopback."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import ipaddress
from typing import Any

from oslo_config import cfg
from oslo_log import log

from external_events_router import exceptions
from external_events_router.api import auth
from external_events_router.api import faults
from external_events_router.api import request_buffer

LOG = log.getLogger(__name__)

#: The caller of every request with ``noauth``.
IDENTITY = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'noauth',
    'HTTP_X_USER_NAME': 'noauth',
    'HTTP_X_PROJECT_ID': 'noauth',
    'HTTP_X_ROLES': 'admin,reader',
}

#: Headers that a proxy adds. A proxy on this machine would pass requests of other machines on.
_FORWARDED = ('HTTP_FORWARDED', 'HTTP_X_FORWARDED_FOR', 'HTTP_X_REAL_IP', 'HTTP_VIA')


def from_conf(conf: cfg.ConfigOpts) -> auth.Filter:
    """Return the filter for ``[admin] auth_strategy``.

    :raises ConfigurationError: ``noauth`` and an address that other machines can reach, or an option that
        ``keystone`` needs is missing
    """
    if conf.admin.auth_strategy != 'noauth':
        return auth.keystone(conf)
    if not auth.is_loopback(conf.admin.bind_host):
        raise exceptions.ConfigurationError(
            option='[admin] bind_host',
            reason=f'{conf.admin.bind_host} is not a loopback address, and [admin] auth_strategy is noauth: '
            'any client could change the host map and drop events. Set auth_strategy = keystone, or bind to '
            '127.0.0.1',
        )
    LOG.warning(
        '[admin] auth_strategy is noauth: every client on this machine has the role admin, without a token. '
        'Use keystone in production.'
    )
    return noauth


def noauth(app: auth.WSGIApp) -> auth.WSGIApp:
    """Give every client on this machine the role admin, and refuse all others.

    The header ``Host`` must name this machine, because a web page in the browser of an operator could
    otherwise send requests by a name that resolves to a loopback address.
    """

    def authenticate(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not _is_local(environ):
            fault = faults.Fault(
                403, '[admin] auth_strategy is noauth: only clients on this machine are served.'
            )
            return request_buffer.refuse(fault, start_response)
        auth.remove_claims(environ)
        environ.update(IDENTITY)
        return app(environ, start_response)

    return authenticate


def audit(conf: cfg.ConfigOpts) -> auth.Filter:
    """Return the audit filter of keystonemiddleware; without ``[admin] audit_map_file`` it does nothing.

    :raises ConfigurationError: the file cannot be used
    """
    path = conf.admin.audit_map_file
    if not path:
        return lambda app: app
    # NOTE: imported here, because it imports more libraries than all of the admin API.
    from keystonemiddleware import audit as middleware

    def wrap(app: auth.WSGIApp) -> auth.WSGIApp:
        try:
            filtered: auth.WSGIApp = middleware.AuditMiddleware(
                app, audit_map_file=path, service_name='external-events-router', oslo_config_config=conf
            )
        except Exception as exc:  # the middleware raises exceptions of several libraries
            raise exceptions.ConfigurationError(
                option='[admin] audit_map_file', reason=f'{path}: {type(exc).__name__}: {exc}'
            ) from exc
        return filtered

    return wrap


def _is_local(environ: dict[str, Any]) -> bool:
    if any(name in environ for name in _FORWARDED):
        return False
    host = str(environ.get('HTTP_HOST') or environ.get('SERVER_NAME') or '')
    name = host.rpartition(']')[0].lstrip('[') if host.startswith('[') else host.rsplit(':', 1)[0]
    return _is_loopback(str(environ.get('REMOTE_ADDR') or '127.0.0.1')) and (
        name == 'localhost' or _is_loopback(name)
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
