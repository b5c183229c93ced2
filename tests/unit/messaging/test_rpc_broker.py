"""The check of the broker at start, and the errors that ``rpc`` translates."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time

from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router.messaging import rpc
from tests import base


def conf_of(url: str) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        file.write(f'[DEFAULT]\ntransport_url = {url}\n')
        file.flush()
        conf([], default_config_files=[file.name], default_config_dirs=[])
    return conf


class CheckBrokerTest(base.TestCase):
    def problem(self, url: str, timeout: float = 5.0) -> str:
        error = self.assertRaises(exceptions.ConfigurationError, rpc.check_broker, conf_of(url), timeout)
        text = str(error)
        self.assertTrue(text.startswith('[DEFAULT] transport_url: '), text)
        self.assertNotIn('s3cret', text)
        return text

    def test_driver_without_a_broker(self) -> None:
        rpc.check_broker(conf_of('fake://'))

    def test_port_without_a_listener(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as server:
            port = server.getsockname()[1]
        text = self.problem(f'rabbit://u:s3cret@127.0.0.1:{port},u:s3cret@localhost:{port}/v')
        self.assertIn(f'127.0.0.1:{port}: ', text)
        self.assertIn(f'localhost:{port}: ', text)
        self.assertIn('Connection refused', text)

    def test_broker_that_does_not_answer(self) -> None:
        with contextlib.ExitStack() as stack:
            ports = [
                stack.enter_context(socket.create_server(('127.0.0.1', 0))).getsockname()[1] for _ in range(3)
            ]
            nodes = ','.join(f'u:s3cret@127.0.0.1:{port}' for port in ports)
            started = time.monotonic()
            self.problem(f'rabbit://{nodes}/', timeout=0.5)
            self.assertLess(time.monotonic() - started, 5.0)

    def test_invalid_host_name(self) -> None:
        self.problem('rabbit://u:s3cret@no-such-host.invalid/')

    def test_invalid_url(self) -> None:
        self.problem('bogus://u:s3cret@127.0.0.1/')


class TranslatedTest(base.TestCase):
    def test_error_inside_the_server_is_no_answer(self) -> None:
        with rpc_error(self) as caught, rpc.translated(no_answer=exceptions.ResolverUnavailable):
            raise messaging.RemoteError('ZeroDivisionError', 'secret detail')
        self.assertIsInstance(caught[0], exceptions.ResolverUnavailable)
        self.assertIn('ZeroDivisionError', str(caught[0]))
        self.assertNotIn('secret', str(caught[0]))

    def test_every_other_error_of_the_library_is_translated(self) -> None:
        for error in (
            messaging.RPCVersionCapError(version='2.0', version_cap='1.0'),
            messaging.MessagingException(),
        ):
            with rpc_error(self) as caught, rpc.translated():
                raise error
            self.assertIsInstance(caught[0], exceptions.BrokerUnavailable)


@contextlib.contextmanager
def rpc_error(test: base.TestCase):  # type: ignore[no-untyped-def]
    """Check that the block raises an RPC error of the service."""
    caught: list[Exception] = []
    try:
        yield caught
    except exceptions.RouterError as exc:
        caught.append(exc)
    test.assertEqual(1, len(caught))
