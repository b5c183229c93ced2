"""``broker``: the users of RabbitMQ that the service needs."""

from __future__ import annotations

import argparse
import shlex

from cliff import command
from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import exceptions
from external_events_router import rpc
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import permissions

ROLES = ('agent', 'api', 'operator', 'resolver')


class PrintPermissions(command.Command):
    """Print the rabbitmqctl commands that give a user the least permissions for a role.

    The names of exchanges, queues and topics are those of the configuration: run it with
    the configuration of the service that is to use the user. It changes nothing and
    connects to nothing. Lines that begin with # state permissions that are broader than
    the role.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--role', choices=ROLES, required=True, help='What the user is for.')
        parser.add_argument(
            '--host',
            metavar='NAME',
            action='append',
            default=[],
            help='A host of the agent, for the role agent; may be repeated.',
        )
        parser.add_argument(
            '--user',
            metavar='NAME',
            help='The name of the user. Default: external-events-ROLE, for an agent with -HOST.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        role, hosts = parsed_args.role, parsed_args.host
        if bool(hosts) != (role == 'agent'):
            raise exceptions.RouterError('--host is needed for the role agent, and for no other role')
        conf = app.configuration(self)
        virtual_host, names = _names(conf)
        granted = _granted(conf, role, hosts, names)
        user = parsed_args.user or '-'.join(['external-events', role, *hosts[:1]])
        for line in script(user, virtual_host, granted):
            self.app.stdout.write(f'{line}\n')


def script(user: str, virtual_host: str, granted: permissions.Permissions) -> list[str]:
    """Return lines for a shell: comments, then commands."""
    in_virtual_host = ['-p', virtual_host]
    commands = [
        ['add_user', user],
        ['set_permissions', *in_virtual_host, user, granted.configure, granted.write, granted.read],
        ['clear_topic_permissions', *in_virtual_host, user],
    ]
    for exchange, (write, read) in granted.topics.items():
        commands.append(['set_topic_permissions', *in_virtual_host, user, exchange, write, read])
    comments = [*granted.notes, 'add_user reads the password from the standard input.']
    return [
        *(f'# {comment}' for comment in comments),
        *(shlex.join(['rabbitmqctl', *arguments]) for arguments in commands),
    ]


def _granted(
    conf: cfg.ConfigOpts, role: str, hosts: list[str], names: permissions.Names
) -> permissions.Permissions:
    if role == 'agent':
        return permissions.of_agent(names, hosts)
    if role == 'resolver' or (role == 'api' and conf.api.resolver == 'local'):
        return permissions.of_resolver(names)
    return permissions.of_caller(names)


def _names(conf: cfg.ConfigOpts) -> tuple[str, permissions.Names]:
    """The virtual host, and what the permissions depend on.

    :raises ConfigurationError: the transport is not RabbitMQ
    """
    transport = rpc.get_transport(conf)
    rabbit = rpc.get_rabbit(conf)
    if rabbit is None:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url', reason='is not that of a RabbitMQ, which has users of its own'
        )
    section = conf.oslo_messaging_rabbit
    reply_queue = permissions.RANDOM_REPLY_QUEUE
    if section.use_queue_manager:
        reply_queue = permissions.literal(f'reply_{section.hostname}:{section.processname}:') + '[0-9]+'
    names = permissions.Names(
        exchange=transport.conf.control_exchange,
        compute_topic=conf.compute.topic,
        direct=conf.compute.fast_road and rpc.get_broker(conf) is not None,
        reply_queue=reply_queue,
    )
    return messaging.TransportURL.parse(conf).virtual_host or '/', names


COMMANDS: dict[str, type[command.Command]] = {'broker permissions': PrintPermissions}
