"""``external-events-manage doctor``: check an installation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import logging

from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.doctor import base

COLUMNS = ('status', 'check', 'evidence', 'remedy')


class Doctor(app.Lister):
    """Check an installation: configuration, broker, databases, Keystone, cells and hosts.

    Run it with the configuration, the user and the machine of a service. Each check shows OK, WARN or FAIL,
    the evidence, and the remedy. The exit status is 0 if all checks are OK, 1 after a WARN, and 2
    after a FAIL. Nothing that a service uses is changed: the check "canary" sends an event to a queue that it
    creates and deletes itself.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        # NOTE: imported here, because the other commands do not need Keystone and the services.
        from external_events_router.doctor import catalogue
        from external_events_router.doctor import keystone

        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--service',
            choices=base.SERVICES,
            default=base.API,
            help='Service that uses this configuration. Default: api.',
        )
        parser.add_argument(
            '--check',
            metavar='NAME',
            action='append',
            default=[],
            choices=[check.name for check in catalogue.CHECKS],
            help='Run only this check, and the checks that it needs. This option may be repeated.',
        )
        parser.add_argument(
            '--sender',
            metavar='USER',
            action='append',
            default=[],
            help='Keystone user of a service that sends events. This option may be repeated. '
            f'Default: {", ".join(keystone.SENDERS)}.',
        )
        parser.add_argument(
            '--host', metavar='NAME', help='Host of the agent. Default: [agent] hosts, or [DEFAULT] host.'
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[object, ...]]]:
        from external_events_router.api import auth
        from external_events_router.operations import doctor as operation

        auth.set_middleware_defaults()
        conf = app.configuration(self)
        if not conf.debug:
            # NOTE: the result of a check is the message.
            logging.getLogger('keystoneauth').setLevel(logging.CRITICAL)
        worst, results = operation.run(
            conf,
            self._checks(parsed_args),
            service=parsed_args.service,
            senders=parsed_args.sender,
            host=parsed_args.host,
        )
        self.status = int(worst)
        return COLUMNS, (tuple(result[column] for column in COLUMNS) for result in results)

    status = 0

    def _checks(self, parsed_args: argparse.Namespace) -> list[base.Check]:
        """Return the checks that the command line selects.

        :raises RouterError: the service has none of them
        """
        from external_events_router.doctor import catalogue

        checks = catalogue.checks_for(parsed_args.service)
        if not parsed_args.check:
            return checks
        wanted = set(parsed_args.check)
        for check in reversed(checks):
            if check.name in wanted:
                wanted |= set(check.needs)
        selected = [check for check in checks if check.name in wanted]
        missing = set(parsed_args.check) - {check.name for check in selected}
        if missing:
            raise exceptions.RouterError(
                f'{", ".join(sorted(missing))}: this check does not apply to --service {parsed_args.service}'
            )
        return selected

    def run(self, parsed_args: argparse.Namespace) -> int:
        """Return the exit status."""
        super().run(parsed_args)
        return self.status


COMMANDS: dict[str, type[app.Lister]] = {'doctor': Doctor}
