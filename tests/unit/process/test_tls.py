"""Checks of the files of ``[api] tls_*`` before the server starts."""

from __future__ import annotations

import pathlib
import ssl
from typing import Any
from unittest import mock

from granian import constants
from oslo_config import cfg

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.process import tls
from tests import base
from tests import certificates
from tests.unit.process import test_certificates


class ServerOptionsTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = self.useFixture(certificates.Authority())
        self.files = dict(zip(('tls_cert_file', 'tls_key_file'), self.authority.issue('api'), strict=True))

    def options(self, **files: object) -> dict[str, Any]:
        file = pathlib.Path(self.authority.folder) / 'a.conf'
        file.write_text('[api]\n' + ''.join(f'{name} = {value}\n' for name, value in files.items()))
        conf = cfg.ConfigOpts()
        router_conf.register_all(conf)
        conf(['--config-file', str(file)], project='external-events-router')
        return tls.server_options(conf)

    def assert_refused(self, says: str, **files: object) -> None:
        problem = self.assertRaises(exceptions.ConfigurationError, self.options, **files)
        self.assertTrue(str(problem).startswith(says), problem)

    def test_none(self) -> None:
        self.assertEqual({}, self.options())

    def test_valid_files(self) -> None:
        options = self.options(**self.files)
        self.assertEqual(self.files['tls_cert_file'], options['ssl_cert'])
        self.assertEqual((None, False), (options['ssl_ca'], options['ssl_client_verify']))
        options = self.options(
            **self.files, tls_client_ca_file=self.authority.certificate, tls_min_version='1.3'
        )
        self.assertEqual(constants.SSLProtocols.tls13, options['ssl_protocol_min'])
        self.assertEqual(
            (self.authority.certificate, True), (options['ssl_ca'], options['ssl_client_verify'])
        )

    def test_certificate_without_key_and_key_without_certificate(self) -> None:
        self.assert_refused('[api] tls_cert_file: is not set', tls_key_file=self.files['tls_key_file'])
        self.assert_refused('[api] tls_key_file: is not set', tls_cert_file=self.files['tls_cert_file'])
        self.assert_refused(
            '[api] tls_client_ca_file: requires tls_cert_file and tls_key_file', tls_client_ca_file='/a'
        )

    def test_certificates_of_version_1(self) -> None:
        # NOTE: granian ends with a panic of Rust at one.
        old = self.authority.folder / 'old.pem'
        for name, file in (
            ('tls_cert_file', self.files['tls_cert_file']),
            ('tls_client_ca_file', self.authority.certificate),
        ):
            old.write_bytes(test_certificates.of_version_1(file.read_bytes()))
            with mock.patch.object(ssl.SSLContext, 'load_cert_chain', autospec=True):
                self.assert_refused(
                    f'[api] {name}: a certificate in {old} is of X.509 version 1', **{**self.files, name: old}
                )

    def test_keys_that_do_not_belong_to_the_certificate(self) -> None:
        for key in (
            self.authority.issue('encrypted', password='key-7b3e9d1f')[1],
            self.authority.issue('another')[1],
            self.authority.certificate,
        ):
            self.assert_refused(
                '[api] tls_key_file: is encrypted, or does not belong', **{**self.files, 'tls_key_file': key}
            )

    def test_missing_files(self) -> None:
        for name in ('tls_cert_file', 'tls_key_file', 'tls_client_ca_file'):
            self.assert_refused(f'[api] {name}: [Errno 2]', **{**self.files, name: '/nonexistent/file.pem'})

    def test_invalid_certificate_authority(self) -> None:
        nothing = pathlib.Path(self.authority.folder) / 'empty.pem'
        nothing.touch()
        self.assert_refused('[api] tls_client_ca_file: ', **self.files, tls_client_ca_file=nothing)
