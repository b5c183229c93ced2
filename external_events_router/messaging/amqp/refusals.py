"""Why RabbitMQ accepts no connection: a refused login, a virtual host, or no server, and the remedy."""

from __future__ import annotations

import ssl

from amqp import exceptions as amqp_exceptions
from kombu import exceptions as kombu_exceptions


def describe(exc: BaseException, *, user: str, virtual_host: str) -> str:
    """Return the cause and the remedy, followed by the text of the driver.

    :param exc: the exception of kombu, py-amqp or the operating system
    :param user: of the URL; the text must not contain the password
    """
    if isinstance(exc, kombu_exceptions.OperationalError) and exc.__cause__ is not None:
        exc = exc.__cause__
    text = ' '.join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, amqp_exceptions.AccessRefused):
        return (
            f'the node refuses the login of user {user!r} ({text}); correct the user and the password in the '
            'URL, or set the password with "rabbitmqctl change_password"'
        )
    if isinstance(exc, amqp_exceptions.NotAllowed):
        return f'{_of_virtual_host(text, user, virtual_host)} ({text})'
    if isinstance(exc, ssl.SSLError):
        return f'the TLS handshake failed ({text}); check the TLS options of [oslo_messaging_rabbit]'
    if isinstance(exc, OSError):
        return (
            f'the node cannot be reached ({text}); check the host and the port in the URL, the node with '
            '"rabbitmqctl status", and the network'
        )
    return text


def _of_virtual_host(text: str, user: str, virtual_host: str) -> str:
    if 'not found' in text:
        return (
            f'the virtual host {virtual_host!r} does not exist: correct the end of the URL, or run '
            f'"rabbitmqctl add_vhost {virtual_host}"'
        )
    return (
        f'user {user!r} has no permissions for the virtual host {virtual_host!r}: see '
        '"external-events-manage broker permissions"'
    )
