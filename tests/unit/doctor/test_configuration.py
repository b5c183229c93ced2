"""Checks of configuration files, certificates and limits, each with the real problem."""

from __future__ import annotations

import datetime
import pathlib
import resource
import subprocess
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid
import fixtures

from external_events_router.doctor import base as checks
from external_events_router.doctor import configuration
from external_events_router.doctor import machine
from tests import base
from tests import certificates as authorities
from tests.unit.doctor import sites


def certificate_until(path: pathlib.Path, days: int) -> None:
    """Write a certificate that expires in some days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, 'test')])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days, hours=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=1000))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


class FilesTest(base.TestCase):
    def test_missing(self) -> None:
        result = self.useFixture(sites.Site()).run(sites.named(configuration.CHECKS, 'config-files'))
        self.assertEqual(checks.Status.WARN, result.status)
        self.assertIn('/etc/external-events-router/external-events-router.conf', result.evidence)

    def test_readable_by_every_user(self) -> None:
        site = self.useFixture(sites.Site(text='[api]\nworkers = 2\n'))
        check = sites.named(configuration.CHECKS, 'config-files')
        self.assertEqual(checks.Status.OK, site.run(check).status)
        site.path.chmod(0o644)
        result = site.run(check)
        self.assertEqual(checks.Status.WARN, result.status)
        self.assertIn(f'chmod 0640 {site.path}', result.remedy)

    def test_unknown_options(self) -> None:
        check = sites.named(configuration.CHECKS, 'config-options')
        with sites.Site(text='[api]\nworkers = 2\n') as site:
            self.assertEqual(checks.Status.OK, site.run(check).status)
        with sites.Site(text='[api]\nworkers = 2\nbind_prt = 1\n') as site:
            result = site.run(check)
        self.assertEqual(checks.Status.WARN, result.status)
        self.assertIn('line 3: [api] bind_prt; the nearest name is bind_port', result.evidence)


class CertificatesTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'certificate.pem'

    def check(self) -> checks.Result:
        with sites.Site(api__tls_cert_file=str(self.file)) as site:
            return site.run(sites.named(configuration.CHECKS, 'certificates'))

    def test_dates(self) -> None:
        for days, status, text in (
            (100, checks.Status.OK, '1 files; the first one expires on '),
            (5, checks.Status.WARN, 'expires in 5 days'),
            (-5, checks.Status.FAIL, 'has expired'),
        ):
            certificate_until(self.file, days)
            result = self.check()
            self.assertEqual(status, result.status, result)
            self.assertIn(text, result.evidence)

    def test_unusable_files(self) -> None:
        self.assertIn('No such file', self.check().evidence)
        self.file.write_text('-----BEGIN CERTIFICATE-----\nxxx\n-----END CERTIFICATE-----\n')
        result = self.check()
        self.assertEqual(checks.Status.FAIL, result.status)
        self.assertIn('not a PEM file', result.evidence)

    def test_key_that_every_user_can_read(self) -> None:
        authority = self.useFixture(authorities.Authority())
        _certificate, key = authority.issue('service')
        certificate_until(self.file, 100)
        key.chmod(0o644)
        site = self.useFixture(sites.Site(api__tls_cert_file=str(self.file), api__tls_key_file=str(key)))
        result = site.run(sites.named(configuration.CHECKS, 'certificates'))
        self.assertEqual(checks.Status.WARN, result.status)
        self.assertIn('every user', result.evidence)


class FileLimitTest(base.TestCase):
    CHECK = sites.named(machine.CHECKS, 'file-limit')

    def test_limit_of_this_command(self) -> None:
        site = self.useFixture(sites.Site(service=checks.RESOLVER))
        needed = machine.files_needed(site.conf, checks.RESOLVER)
        _soft, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        self.assertEqual(checks.Status.OK, site.run(self.CHECK).status)
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed - 1, hard))
        result = site.run(self.CHECK)
        self.assertEqual(checks.Status.WARN, result.status)
        self.assertIn(f'LimitNOFILE={2 * needed}', result.remedy)

    def test_limit_of_a_running_service(self) -> None:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        program = folder / 'external-events-agent'
        program.write_text('import sys\nprint("ready", flush=True)\nsys.stdin.read()\n')
        process = subprocess.Popen(
            [sys.executable, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50)),
        )
        self.addCleanup(process.communicate)
        assert process.stdout is not None
        self.assertEqual(b'ready\n', process.stdout.readline())
        site = self.useFixture(sites.Site(service=checks.AGENT))
        result = site.run(self.CHECK)
        self.assertEqual(checks.Status.WARN, result.status, result)
        self.assertIn(' may open 50 files', result.evidence)

    def test_more_clients_need_more_files(self) -> None:
        few = self.useFixture(sites.Site(api__max_connections=100))
        needed = machine.files_needed(few.conf, checks.API)
        few.conf.set_override('max_connections', 300, group='api')
        self.assertEqual(needed + 200, machine.files_needed(few.conf, checks.API))
