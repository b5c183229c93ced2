"""Certificates for the duration of a test: an authority, and the certificates that it signs."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import shutil

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid
import fixtures

#: How long a certificate is valid; before now too, for clocks that differ.
VALIDITY = datetime.timedelta(hours=12)


class Authority(fixtures.Fixture):
    """A certificate authority that no other program trusts.

    :ivar certificate: the file of its own certificate; a client that has it trusts the signed certificates
    """

    def _setUp(self):
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        # NOTE: servers that run as another user read files in this folder, too.
        self.folder.chmod(0o755)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name('authority')
        self.certificate = self.folder / 'authority.pem'
        builder = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        signed = builder.sign(self._key, hashes.SHA256())
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(self, name, *, password=None, owner=None):
        """A certificate for this machine's loopback, for servers and clients.

        :param password: of the key's file
        :param owner: user that may read the key
        :returns: the files of the certificate and its key
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName('localhost'), x509.IPAddress(ipaddress.ip_address('127.0.0.1'))]
        signed = (
            _builder(_name(name), self._name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(
                    [oid.ExtendedKeyUsageOID.SERVER_AUTH, oid.ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        files = self.folder / f'{name}.pem', self.folder / f'{name}.key'
        files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        files[1].touch(mode=0o600)
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode())
                if password
                else serialization.NoEncryption(),
            )
        )
        if owner:
            shutil.chown(files[1], owner)
        return files


def _name(common_name):
    return x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, common_name)])


def _builder(subject, issuer, key):
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALIDITY)
        .not_valid_after(now + VALIDITY)
    )
