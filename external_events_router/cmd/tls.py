"""TLS to the clients of the front: what ``[api] tls_*`` says, proved and in granian's words.

TLS to the broker, the database and Keystone is the business of their libraries.
"""

from __future__ import annotations

import pathlib
import ssl
from typing import Any

from granian import constants
from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.cmd import certificates


def server_options(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """What granian has to be told; nothing where the front speaks plain HTTP.

    :raises ConfigurationError: naming the file that is missing or cannot be used
    """
    options = conf.api
    if not (options.tls_cert_file or options.tls_key_file):
        if options.tls_client_ca_file:
            raise _problem('tls_client_ca_file', 'is set, but not tls_cert_file and tls_key_file')
        return {}
    for name in ('tls_cert_file', 'tls_key_file'):
        if not options[name]:
            raise _problem(name, 'is not set, but its counterpart is')
    _prove(options)
    return {
        'ssl_cert': pathlib.Path(options.tls_cert_file),
        'ssl_key': pathlib.Path(options.tls_key_file),
        'ssl_protocol_min': constants.SSLProtocols(f'tls{options.tls_min_version}'),
        'ssl_ca': pathlib.Path(options.tls_client_ca_file) if options.tls_client_ca_file else None,
        'ssl_client_verify': bool(options.tls_client_ca_file),
    }


def _prove(options: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name in ('tls_cert_file', 'tls_key_file', 'tls_client_ca_file'):
        if options[name]:
            _prove_readable(name, options[name])
    try:
        # NOTE: without a password OpenSSL would ask for it on the terminal. There
        # is no option for one: granian 2.8 reads no encrypted key.
        context.load_cert_chain(options.tls_cert_file, options.tls_key_file, password='')
    except (OSError, ValueError) as exc:
        raise _problem(
            'tls_key_file', f'is encrypted, or does not belong to tls_cert_file: {_reason(exc)}'
        ) from exc
    for name in ('tls_cert_file', 'tls_client_ca_file'):
        _prove_version(name, options[name])
    if options.tls_client_ca_file:
        try:
            context.load_verify_locations(options.tls_client_ca_file)
        except (OSError, ValueError) as exc:
            raise _problem('tls_client_ca_file', _reason(exc)) from exc


def _prove_version(name: str, file: str) -> None:
    """Granian reads certificates of X.509 version 3 only, and ends without a message at another."""
    try:
        found = certificates.read(file) if file else []
    except (OSError, ValueError, IndexError) as exc:
        raise _problem(name, f'a certificate in {file} cannot be read: {exc}') from exc
    for certificate in found:
        if certificate.version < 3:
            raise _problem(
                name,
                f'a certificate in {file} is of X.509 version {certificate.version}; issue one of version 3',
            )


def _prove_readable(name: str, file: str) -> None:
    try:
        with open(file, 'rb'):
            pass
    except OSError as exc:
        raise _problem(name, str(exc)) from exc


def _reason(exc: Exception) -> str:
    return getattr(exc, 'reason', None) or str(exc)


def _problem(option: str, reason: str) -> exceptions.ConfigurationError:
    return exceptions.ConfigurationError(option=f'[api] {option}', reason=reason)
