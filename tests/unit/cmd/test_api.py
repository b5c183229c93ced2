"""The checks of ``external-events-api`` before it serves requests and when it reloads."""

from __future__ import annotations

import functools
import pathlib
import pickle
import resource
import socket

import fixtures
from oslo_config import cfg

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.cmd import api
from external_events_router.conf import opts
from external_events_router.process import notify
from tests import base


class BindAddressTest(base.TestCase):
    def test_free_port(self) -> None:
        self.assertEqual('127.0.0.1', api.bind_address('localhost', 0))
        self.assertEqual('::1', api.bind_address('::1', 0))

    def test_port_in_use_by_a_process_that_would_share_it(self) -> None:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(('127.0.0.1', 0))
            other.listen()
            port = other.getsockname()[1]
            problem = self.assertRaises(exceptions.ConfigurationError, api.bind_address, '127.0.0.1', port)
        self.assertEqual(
            f'[api] bind_port: cannot listen on 127.0.0.1 port {port}: Address already in use', str(problem)
        )

    def test_address_of_another_machine(self) -> None:
        for host in ('192.0.2.1', 'no-such-host.invalid'):
            problem = self.assertRaises(exceptions.ConfigurationError, api.bind_address, host, 0)
            self.assertIn('[api] bind_host', str(problem))


class FilesTest(base.TestCase):
    def test_open_files_limit_is_raised_for_the_connections(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        api.allow_files(512)
        self.assertEqual((512, hard), resource.getrlimit(resource.RLIMIT_NOFILE))
        api.allow_files(300)
        self.assertEqual((512, hard), resource.getrlimit(resource.RLIMIT_NOFILE))

    def test_more_files_than_the_system_allows(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY:
            self.skipTest('this system allows any number')
        problem = self.assertRaises(exceptions.ConfigurationError, api.allow_files, hard + 1)
        self.assertIn('[api] max_connections', str(problem))


class ReloadTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'a.conf'
        self.write(threads='8')
        self.conf = cfg.ConfigOpts()
        opts.set_library_defaults()
        router_conf.register_all(self.conf)
        arguments = ['--config-file', str(self.file)]
        self.conf(arguments, project='external-events-router')
        # The command reads the files of its own arguments again.
        self.useFixture(fixtures.MonkeyPatch('sys.argv', [api.PROG, *arguments]))

    def write(self, **api_options: str) -> None:
        # NOTE: a resolver inside the API process would need a database.
        options = {'auth_strategy': 'noauth', 'resolver': 'rpc', **api_options}
        lines = [f'{name} = {value}' for name, value in options.items()]
        self.file.write_text('\n'.join(['[DEFAULT]', 'transport_url = fake://', '[api]', *lines, '']))

    def test_valid_change_is_applied(self) -> None:
        self.write(threads='9')
        self.assertTrue(api.usable(self.conf))
        self.assertEqual(9, self.conf.api.threads)

    def test_invalid_change_is_logged_and_not_applied(self) -> None:
        for change, named in (
            ({'threads': 'many'}, '[api] threads'),
            ({'auth_strategy': 'keystone'}, '[keystone_authtoken] auth_type'),
        ):
            self.write(**change)
            self.assertFalse(api.usable(self.conf))
            self.assertIn(f'configuration not reloaded: {named}', self.logs.output)

    def test_missing_file(self) -> None:
        self.file.unlink()
        self.assertFalse(api.usable(self.conf))

    def test_server_checks_the_configuration_before_the_reload(self) -> None:
        server = api.make_server(self.conf, '127.0.0.1')
        self.write(threads='many')
        server.signal_handler_reload()
        self.assertFalse(server.reload_signal)
        self.write(threads='8')
        server.signal_handler_reload()
        self.assertTrue(server.reload_signal)

    def test_limits_of_the_server(self) -> None:
        self.write(max_connections='99', max_header_bytes='8192', idle_timeout='2.5')
        self.assertTrue(api.usable(self.conf))
        server = api.make_server(self.conf, '127.0.0.1')
        self.assertEqual((99, 99), (server.backpressure, server.blocking_threads))
        self.assertEqual(2500, server.http1_settings.header_read_timeout)
        self.assertEqual(8192, server.http1_settings.max_buffer_size)


class WorkerTest(base.TestCase):
    def test_arguments_of_a_worker_can_be_sent_to_a_process(self) -> None:
        # NOTE: the heartbeats are in shared memory, which is passed only while a process starts.
        heartbeats = notify.Heartbeats([0.0], [0])
        loader = functools.partial(api.load_worker, ['--config-file', 'x'], worker=0, heartbeats=heartbeats)
        self.assertEqual(loader.args, pickle.loads(pickle.dumps(loader)).args)  # noqa: S301
