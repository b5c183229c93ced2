"""TLS for the clients of the API: checks the options ``[api] tls_*`` and converts them for granian.

TLS to the broker, the database and Keystone is the responsibility of their libraries.
"""

from __future__ import annotations

import pathlib
import ssl
from typing import Any

from granian import constants
from oslo_config import cfg

from external_events_router import exceptions
from external_events_router.process import certificates


def server_options(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """Return the TLS arguments of granian; none if the API uses plain HTTP.

    :raises ConfigurationError: with the option whose file is missing or not valid
    """
    options = conf.api
    if not (options.tls_cert_file or options.tls_key_file):
        if options.tls_client_ca_file:
            raise _problem('tls_client_ca_file', 'requires tls_cert_file and tls_key_file, which are not set')
        return {}
    for name in ('tls_cert_file', 'tls_key_file'):
        if not options[name]:
            other = {'tls_cert_file': 'tls_key_file', 'tls_key_file': 'tls_cert_file'}[name]
            raise _problem(name, f'is not set, but {other} is set; set both for HTTPS, or neither')
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
        # NOTE: without a password, OpenSSL would ask for it on the terminal. An option for the
        # password would not help: granian 2.8 does not read encrypted keys.
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
    """Check the X.509 version: granian reads only version 3, and ends without a message at another."""
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
