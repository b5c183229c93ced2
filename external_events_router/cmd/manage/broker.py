"""``broker``: the users of RabbitMQ that the service needs."""

from __future__ import annotations

import argparse
import shlex

from cliff import command
from oslo_config import cfg
import oslo_messaging as messaging

from external_events_router import checks
from external_events_router import exceptions
from external_events_router.cmd.manage import app
from external_events_router.cmd.manage import permissions
from external_events_router.messaging import rpc

ROLES = ('agent', 'api', 'operator', 'resolver')


class PrintPermissions(command.Command):
    """Print the rabbitmqctl commands that give a user the least permissions for a role.

    Use the configuration of the service that will use this user: it contains the names of
    exchanges, queues and topics. The command changes nothing and connects to nothing. Lines
    that begin with # describe permissions that are broader than the role.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('--role', choices=ROLES, required=True, help='Role of the user.')
        parser.add_argument(
            '--host',
            metavar='NAME',
            action='append',
            default=[],
            help='Host of the agent, for the role agent only. This option may be repeated.',
        )
        parser.add_argument(
            '--user',
            metavar='NAME',
            help='Name of the user. Default: external-events-ROLE; external-events-agent-HOST for an agent.',
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        role, hosts = parsed_args.role, parsed_args.host
        if bool(hosts) != (role == 'agent'):
            raise exceptions.RouterError(
                '--host is required for the role agent; other roles do not accept it'
            )
        conf = app.configuration(self)
        longest = checks.longest_host(conf.compute.topic)
        for host in hosts:
            if not checks.is_host(host, longest):
                raise exceptions.MalformedMessage(what='host name', value=host)
        virtual_host, names = _names(conf)
        granted = _granted(conf, role, hosts, names)
        user = parsed_args.user or '-'.join(['external-events', role, *hosts[:1]])
        for line in script(user, virtual_host, granted):
            self.app.stdout.write(f'{line}\n')


def script(user: str, virtual_host: str, granted: permissions.Permissions) -> list[str]:
    """Return lines for a shell: first comments, then commands."""
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
    """Return the virtual host, and the names on which the permissions depend.

    :raises ConfigurationError: the transport is not RabbitMQ
    """
    transport = rpc.get_transport(conf)
    rabbit = rpc.get_rabbit(conf)
    if rabbit is None:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] transport_url',
            reason='is not a RabbitMQ URL; users and permissions exist only on RabbitMQ',
        )
    section = conf.oslo_messaging_rabbit
    reply_queue = permissions.RANDOM_REPLY_QUEUE
    if section.use_queue_manager:
        reply_queue = permissions.literal(f'reply_{section.hostname}:{section.processname}:') + '[0-9]+'
    names = permissions.Names(
        exchange=transport.conf.control_exchange,
        compute_topic=conf.compute.topic,
        direct=conf.compute.direct_amqp and rpc.get_broker(conf) is not None,
        reply_queue=reply_queue,
    )
    return messaging.TransportURL.parse(conf).virtual_host or '/', names


COMMANDS: dict[str, type[command.Command]] = {'broker permissions': PrintPermissions}
