"""Checks at start of a command the certificates and private keys that the configuration names.

The library that uses a file reports an unusable file. This module reports conditions that no library
reports: a private key that every user can read, a certificate that expires soon, and a certificate of X.509
version 1, which many TLS libraries refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import datetime
import os
import re
import ssl
import stat
import urllib.parse

from oslo_config import cfg
from oslo_log import log

LOG = log.getLogger(__name__)

#: A WARNING is logged for a certificate that expires within this time.
SOON = datetime.timedelta(days=30)

#: A file with more certificates is a trust store, which is maintained by the operating system.
FEW = 10

CERTIFICATE, KEY, AUTHORITY = 'certificate', 'private key', 'certificate of an authority'

#: For each group, options and the content of their files.
OPTIONS = {
    'api': {'tls_cert_file': CERTIFICATE, 'tls_key_file': KEY, 'tls_client_ca_file': AUTHORITY},
    'oslo_messaging_rabbit': {'ssl_cert_file': CERTIFICATE, 'ssl_key_file': KEY, 'ssl_ca_file': AUTHORITY},
    'keystone_authtoken': {'certfile': CERTIFICATE, 'keyfile': KEY, 'cafile': AUTHORITY},
}

#: Options that are URLs of databases.
URLS = (
    ('database', 'connection'),
    ('database', 'slave_connection'),
    ('nova', 'api_connection'),
    ('nova', 'database_connection'),
)

#: Parameters of such a URL, and the content of their files. The names are of libpq and of PyMySQL.
PARAMETERS = {
    'sslcert': CERTIFICATE,
    'sslkey': KEY,
    'sslrootcert': AUTHORITY,
    'ssl_cert': CERTIFICATE,
    'ssl_key': KEY,
    'ssl_ca': AUTHORITY,
}

_PEM = re.compile(rb'-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----', re.DOTALL)

#: Tags of ASN.1 that X.509 uses.
_VERSION, _UTC_TIME = 0xA0, 0x17


@dataclasses.dataclass(frozen=True, slots=True)
class Certificate:
    """The checked properties of a certificate.

    :ivar version: 1 or 3
    :ivar expires: with a time zone
    """

    version: int
    expires: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class File:
    """A file that an option names.

    :ivar option: with its group, for log messages
    :ivar kind: :data:`CERTIFICATE`, :data:`KEY` or :data:`AUTHORITY`
    """

    option: str
    path: str
    kind: str


def warn(conf: cfg.ConfigOpts) -> None:
    """Log a WARNING for each problem of the files that the configuration names."""
    for file in files_of(conf):
        for text in problems(file):
            LOG.warning('%s', text)


def files_of(conf: cfg.ConfigOpts) -> Iterator[File]:
    """Return the files that options of this process name; options that are not registered are ignored."""
    for group, options in OPTIONS.items():
        for name, kind in options.items():
            if path := _value(conf, group, name):
                yield File(f'[{group}] {name}', path, kind)
    for group, name in URLS:
        try:
            query = urllib.parse.urlsplit(_value(conf, group, name)).query
        except ValueError:
            # The check of the database reports a malformed URL, without its password.
            continue
        for parameter, path in urllib.parse.parse_qsl(query):
            if parameter in PARAMETERS:
                yield File(f'[{group}] {name} ({parameter})', path, PARAMETERS[parameter])


def _value(conf: cfg.ConfigOpts, group: str, name: str) -> str:
    try:
        return str(conf[group][name] or '')
    except (cfg.Error, KeyError, ValueError):
        # NOTE: this process does not use the option, or another check refuses its value.
        return ''


def first_expiry(file: File) -> datetime.datetime | None:
    """Return the time when the first certificate of a file expires.

    :returns: a time with a time zone; None if the file has no certificates, cannot be read, or is a trust
        store of the system
    """
    if file.kind == KEY:
        return None
    try:
        found = read(file.path)
    except (OSError, ValueError, IndexError):
        return None
    return min((each.expires for each in found), default=None) if len(found) <= FEW else None


def problems(file: File, *, now: datetime.datetime | None = None) -> Iterator[str]:
    """Return the problems of a file, as sentences for an operator.

    A file that cannot be read has no problems here: the library that uses it reports the error.

    :param now: the present time; None: the time of the system
    """
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        if file.kind == KEY:
            yield from _problems_of_key(file)
        else:
            certificates = read(file.path)
            # NOTE: among the hundred authorities in a trust store, some have always expired and are unused.
            for certificate in certificates if len(certificates) <= FEW else ():
                yield from _problems_of_certificate(file, certificate, now)
    except (OSError, ValueError, IndexError):
        return


def _problems_of_key(file: File) -> Iterator[str]:
    mode = stat.S_IMODE(os.stat(file.path).st_mode)
    if mode & stat.S_IROTH:
        yield (
            f'The private key {file.path} of {file.option} can be read by every user of this machine (mode '
            f'{mode:04o}). Such a user can impersonate this service. Run: chmod o-rwx {file.path}'
        )


def _problems_of_certificate(file: File, certificate: Certificate, now: datetime.datetime) -> Iterator[str]:
    left = certificate.expires - now
    if left < SOON:
        when = f'expires in {left.days} days' if left > datetime.timedelta() else 'has expired'
        yield (
            f'A {file.kind} in {file.path} of {file.option} {when} ({certificate.expires:%Y-%m-%d %H:%M} '
            'UTC). Connections fail after this time. Replace the file.'
        )
    if certificate.version < 3 and file.kind == CERTIFICATE:
        yield (
            f'The certificate in {file.path} of {file.option} is of X.509 version {certificate.version}, '
            'which many TLS libraries refuse. Issue a certificate of version 3.'
        )


def read(path: str) -> list[Certificate]:
    """Return the certificates of a PEM file, in their order.

    :raises OSError: the file cannot be read
    :raises ValueError: it contains a block that is not a certificate
    """
    with open(path, 'rb') as file:
        blocks = _PEM.findall(file.read())
    return [_parse(ssl.PEM_cert_to_DER_cert(block.decode('ascii'))) for block in blocks]


def _parse(der: bytes) -> Certificate:
    """Read version and validity. RFC 5280, section 4.1 defines the layout."""
    outer = _element(der, 0)
    fields = list(_children(der, _element(der, outer[1])))
    version = 1
    if fields[0][0] == _VERSION:
        version = 1 + der[fields.pop(0)[2] - 1]
    # NOTE: the fields are serial number, algorithm, issuer, validity.
    tag, start, end = list(_children(der, fields[3]))[1]
    text = der[start:end].decode('ascii')
    layout = '%y%m%d%H%M%SZ' if tag == _UTC_TIME else '%Y%m%d%H%M%SZ'
    return Certificate(version, datetime.datetime.strptime(text, layout).replace(tzinfo=datetime.UTC))


def _children(der: bytes, parent: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    _tag, at, end = parent
    while at < end:
        child = _element(der, at)
        yield child
        at = child[2]


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of a DER element, and the start and end of its content."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(der[start : start + size])
        start += size
    return tag, start, start + length
