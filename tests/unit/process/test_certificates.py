"""Certificates and keys in the configuration, checked when a command starts."""

from __future__ import annotations

import base64
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from oslo_config import cfg

from external_events_router import conf as router_conf
from external_events_router.conf import database
from external_events_router.process import certificates
from tests import base
from tests import certificates as authorities


def of_version_1(pem):
    """The certificate without its version and extensions; its signature becomes invalid."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    outer = certificates._element(der, 0)
    tbs = certificates._element(der, outer[1])
    fields = [der[start - _header(der, start, end) : end] for _tag, start, end in _spans(der, tbs)]
    # NOTE: the first is the version, the last holds the extensions.
    body = _sequence(b''.join(fields[1:-1]))
    text = base64.encodebytes(_sequence(body + der[tbs[2] : outer[2]]))
    return b'-----BEGIN CERTIFICATE-----\n' + text + b'-----END CERTIFICATE-----\n'


def _spans(der, parent):
    return list(certificates._children(der, parent))


def _header(_der, start, end):
    length = end - start
    return 2 if length < 128 else 3 if length < 256 else 4


def _sequence(content):
    size = len(content)
    length = bytes([size]) if size < 128 else b'\x82' + size.to_bytes(2)
    return b'\x30' + length + content


class CertificatesTest(base.TestCase):
    def setUp(self):
        super().setUp()
        self.authority = self.useFixture(authorities.Authority())
        self.certificate, self.key = self.authority.issue('service')
        self.now = datetime.datetime.now(datetime.UTC)

    def problems(self, path, kind=certificates.CERTIFICATE, now=None):
        return list(certificates.problems(certificates.File('[group] option', str(path), kind), now=now))

    def test_read(self):
        expected = x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc
        self.assertEqual([certificates.Certificate(3, expected)], certificates.read(str(self.certificate)))
        chain = self.authority.folder / 'chain.pem'
        chain.write_bytes(self.certificate.read_bytes() + b'text\n' + self.authority.certificate.read_bytes())
        self.assertEqual(2, len(certificates.read(str(chain))))

    def test_a_certificate_that_expires_soon(self):
        (text,) = self.problems(self.certificate)
        self.assertIn('expires in 0 days', text)
        self.assertIn(str(self.certificate), text)
        self.assertIn('[group] option', text)
        (text,) = self.problems(self.certificate, now=self.now + datetime.timedelta(days=2))
        self.assertIn('has expired', text)
        self.assertEqual([], self.problems(self.certificate, now=self.now - datetime.timedelta(days=31)))

    def test_key_that_every_user_may_read(self):
        self.assertEqual([], self.problems(self.key, certificates.KEY))
        self.key.chmod(0o644)
        (text,) = self.problems(self.key, certificates.KEY)
        self.assertIn('mode 0644', text)
        self.assertIn(f'chmod o-rwx {self.key}', text)

    def test_version_1(self):
        old = self.authority.folder / 'old.pem'
        old.write_bytes(of_version_1(self.certificate.read_bytes()))
        self.assertEqual([1], [each.version for each in certificates.read(str(old))])
        texts = self.problems(old, now=self.now - datetime.timedelta(days=31))
        self.assertEqual(1, len(texts))
        self.assertIn('X.509 version 1', texts[0])

    def test_invalid_certificates(self):
        broken = self.authority.folder / 'broken.pem'
        for data in (b'', b'text', b'-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n'):
            broken.write_bytes(data)
            self.assertEqual([], self.problems(broken))
        self.assertEqual([], self.problems(broken.with_name('missing')))

    def test_files_of_the_configuration(self):
        file = self.authority.folder / 'a.conf'
        file.write_text(
            '[api]\ntls_key_file = /api.key\n[database]\n'
            'connection = postgresql+psycopg://u:p@h/d?sslmode=verify-full&sslkey=%2Fdb.key\n'
        )
        conf = cfg.ConfigOpts()
        router_conf.register_all(conf)
        database.set_defaults()
        conf(['--config-file', str(file)], project='external-events-router')
        conf.register_opts(dict(database.library_opts())['database'], group='database')
        found = {(file.option, file.path, file.kind) for file in certificates.files_of(conf)}
        self.assertEqual(
            {
                ('[api] tls_key_file', '/api.key', certificates.KEY),
                ('[database] connection (sslkey)', '/db.key', certificates.KEY),
            },
            found,
        )
