"""``external-events-manage health``: an exit status for the health check of a container."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import json
import ssl
from typing import Any
import urllib.error
import urllib.request

from cliff import command
from oslo_config import cfg

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.process import startup

#: Maximum seconds of one request.
TIMEOUT = 5.0

#: Addresses that mean all addresses of the machine, and one at which it can be asked.
_ANY = {'0.0.0.0': '127.0.0.1', '::': '::1'}  # noqa: S104


class Health(app.Lister):
    """Ask a service on this machine for its readiness; exit status 1 if a process is not ready."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--service',
            choices=('api', 'resolver', 'agent'),
            required=True,
            help='Service to ask, at the address in its configuration file.',
        )
        parser.add_argument(
            '--cert',
            metavar='FILE',
            help='Certificate of the client, if the API requires one ([api] tls_client_ca_file).',
        )
        parser.add_argument('--key', metavar='FILE', help='Private key of this certificate.')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        rows: list[tuple[Any, ...]] = []
        conf = read(self, parsed_args.service)
        tls = client_tls(conf, parsed_args.service, cert=parsed_args.cert, key=parsed_args.key)
        for url in urls(conf, parsed_args.service):
            status, body = ask(url, tls)
            self.is_ready = self.is_ready and status == 200
            rows.append((url, 'all', body['status'], ''))
            for name, part in body['parts'].items():
                details = {key: value for key, value in part.items() if key != 'status'}
                rows.append((url, name, part['status'], json.dumps(details) if details else ''))
        return ('Process', 'Part', 'Status', 'Details'), rows

    is_ready = True

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Return the exit status."""
        super().run(parsed_args)
        return 0 if self.is_ready else 1


def read(cmd: app.Lister, service: str) -> cfg.ConfigOpts:
    """Read the configuration of a service: its files, unless the command line names others."""
    conf = cfg.ConfigOpts()
    router_conf.register_all(conf)
    own = app.configuration(cmd)
    arguments = [f'--config-file={path}' for path in own.config_file or ()]
    arguments += [f'--config-dir={path}' for path in own.config_dir or ()]
    conf(arguments, project=startup.PROJECT, prog=f'external-events-{service}')
    return conf


def urls(conf: cfg.ConfigOpts, service: str) -> Iterator[str]:
    """Yield the URL of each process of a service; the API has one for all its workers.

    :raises ConfigurationError: ``[health] bind_port`` is not set
    """
    if service == 'api':
        scheme = 'https' if conf.api.tls_cert_file else 'http'
        yield f'{scheme}://{_address(conf.api.bind_host)}:{conf.api.bind_port}/readiness'
        return
    if conf.health.bind_port is None:
        raise exceptions.ConfigurationError(
            option='[health] bind_port', reason=f'is not set, so the {service} cannot be asked'
        )
    for number in range(conf.resolver.workers if service == 'resolver' else 1):
        yield f'http://{_address(conf.health.bind_host)}:{conf.health.bind_port + number}/readiness'


def client_tls(conf: cfg.ConfigOpts, service: str, *, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Return the settings of a connection, with a certificate if the API requires one.

    :raises ConfigurationError: the certificate is missing or cannot be used
    """
    # NOTE: the certificate of the API is for the name of the machine, and the connection does not leave it.
    tls = ssl._create_unverified_context()  # noqa: S323
    if cert is not None:
        try:
            tls.load_cert_chain(cert, key, password='')
        except (OSError, ValueError) as exc:
            reason = f'cannot be used: {getattr(exc, "reason", None) or exc}'
            raise exceptions.ConfigurationError(option='--cert, --key', reason=reason) from exc
    elif service == 'api' and conf.api.tls_client_ca_file:
        raise exceptions.ConfigurationError(
            option='--cert, --key',
            reason='are missing, but [api] tls_client_ca_file requires a certificate of each client: issue '
            'one for this command',
        )
    return tls


def ask(url: str, tls: ssl.SSLContext) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an answer; status 0 if the process does not answer."""
    # NOTE: the environment may name a proxy for other hosts.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
    )
    try:
        with opener.open(url, timeout=TIMEOUT) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        text = exc.read()
        try:
            body = json.loads(text)
            return exc.code, dict(body, parts=body['parts'])
        except (ValueError, KeyError, TypeError):
            return exc.code, {'status': f'HTTP status {exc.code}', 'parts': {}}
    except (OSError, ValueError) as exc:
        return 0, {'status': f'no answer: {getattr(exc, "reason", exc)}', 'parts': {}}


def _address(host: str) -> str:
    host = _ANY.get(host, host)
    return f'[{host}]' if ':' in host else host


COMMANDS: dict[str, type[command.Command]] = {'health': Health}
