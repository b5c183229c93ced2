"""Regular expressions for the least permissions on RabbitMQ for each role of the service.

RabbitMQ checks the names of exchanges and queues: ``configure`` to declare or delete, ``write``
to publish to an exchange and to bind a queue, ``read`` to consume and to bind to an exchange. For
topic exchanges it also checks routing keys. The module ``amqp`` and the RabbitMQ driver of
oslo.messaging 18 determine the names.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re

from external_events_router.doctor import probe
from external_events_router.resolver import rpcapi

#: RabbitMQ checks this name for a publish to the default exchange, which reaches any queue.
DEFAULT_EXCHANGE = r'amq\.default'

#: Queue for replies of oslo.messaging, if ``use_queue_manager`` is off.
RANDOM_REPLY_QUEUE = 'reply_[0-9a-f]{32}'

_NOTHING = '^$'


@dataclasses.dataclass(frozen=True)
class Names:
    """Configuration values on which permissions depend.

    :ivar exchange: ``[DEFAULT] control_exchange``
    :ivar compute_topic: ``[compute] topic``
    :ivar direct: agents use direct AMQP for deliveries and acknowledgements
    :ivar reply_queue: regular expression of the queues for replies
    """

    exchange: str
    compute_topic: str
    direct: bool = True
    reply_queue: str = RANDOM_REPLY_QUEUE

    @property
    def acks(self) -> str:
        """The exchange to which agents publish acknowledgements."""
        return f'{self.exchange}_acks'

    @property
    def reports(self) -> str:
        """The exchange to which agents publish reports."""
        return f'{self.exchange}_reports'


@dataclasses.dataclass(frozen=True)
class Permissions:
    """Permissions of one user. Each string is a complete regular expression.

    :ivar topics: for each exchange, the routing keys that the user may publish and bind
    :ivar notes: permissions that are broader than the role, with the reason
    """

    configure: str
    write: str
    read: str
    topics: Mapping[str, tuple[str, str]]
    notes: Sequence[str] = ()


def of_agent(names: Names, hosts: Iterable[str]) -> Permissions:
    """Return the permissions of an agent process that serves some hosts."""
    topic, hosts = literal(names.compute_topic), list(hosts)
    queues = [rf'{topic}\.{literal(host)}' for host in hosts]
    exchange, acks, reports = map(literal, (names.exchange, names.acks, names.reports))
    configure = [*queues, reports, names.reply_queue]
    read = [exchange, *queues, names.reply_queue]
    write = [acks, reports, *queues]
    bind = list(queues)
    notes = [
        'RabbitMQ does not see the host of a report: an agent may report for other hosts, unless the '
        'resolvers have [resolver] require_report_token = true.',
        f'An agent may delete the exchange {names.reports}, because oslo.messaging declares it before each '
        'report. The resolvers declare it again within 20 s.',
        _note_on_replies(names),
    ]
    if not names.direct:
        fanout = [f'{topic}_fanout', f'{topic}_fanout_.+']
        configure += [exchange, acks, topic, *fanout]
        write += [topic, fanout[1]]
        read += [topic, *fanout]
        bind.append(topic)
        notes.append(
            'Without direct AMQP, oslo.messaging declares the exchange of all topics, so this user may '
            f'delete {names.exchange} and declare it with another type, which does not check routing '
            'keys. Set [compute] direct_amqp = true if you do not trust all agents.'
        )
    topics = {
        names.exchange: (_NOTHING, _any_of(bind)),
        names.acks: (_any_of([rf'{rpcapi.ACK_TOPIC}\..+']), _NOTHING),
        names.reports: (_any_of([rpcapi.REPORT_TOPIC]), _NOTHING),
    }
    return Permissions(_any_of(configure), _any_of(write), _any_of(read), topics, notes)


def of_resolver(names: Names) -> Permissions:
    """Return the permissions of a resolver, and of an API with a resolver in each process."""
    exchange, acks, reports = map(literal, (names.exchange, names.acks, names.reports))
    own = f'({"|".join((rpcapi.TOPIC, rpcapi.REPORT_TOPIC, rpcapi.ACK_TOPIC))})'
    topic, canary = literal(names.compute_topic), rf'{literal(probe.HOST)}:.+'
    queues = [rf'{own}(\..+)?', f'{own}_fanout(_.+)?', rf'{topic}\.{canary}']
    topics = {
        names.exchange: (
            _any_of([rf'{topic}\..+', rf'{rpcapi.ACK_TOPIC}\.{canary}']),
            _any_of([rf'{own}(\..+)?', rf'{topic}\.{canary}']),
        ),
        names.acks: (_NOTHING, _any_of([rf'{rpcapi.ACK_TOPIC}\.#'])),
        names.reports: (_NOTHING, _any_of([rf'{rpcapi.REPORT_TOPIC}\.#'])),
    }
    return Permissions(
        configure=_any_of([exchange, acks, reports, *queues]),
        write=_any_of([exchange, *queues, DEFAULT_EXCHANGE]),
        read=_any_of([exchange, acks, reports, *queues]),
        topics=topics,
        notes=[
            'A resolver may publish to each queue of the virtual host, because replies use the default '
            'exchange.',
            f'doctor uses queues of hosts whose names begin with {probe.HOST}:, as no real name does.',
        ],
    )


def of_caller(names: Names) -> Permissions:
    """Return the permissions of an API without its own resolver, and of an operator who uses RPC."""
    exchange = literal(names.exchange)
    return Permissions(
        configure=_any_of([exchange, names.reply_queue]),
        write=_any_of([exchange]),
        read=_any_of([names.reply_queue]),
        topics={names.exchange: (_any_of([rpcapi.TOPIC]), _NOTHING)},
        notes=[
            'RabbitMQ does not see the method of a call: this user may call route, assign, unassign '
            'and forget.',
            f'oslo.messaging declares the exchange {names.exchange} before it publishes, so this user may '
            'delete it.',
            _note_on_replies(names),
        ],
    )


def literal(name: str) -> str:
    """Return a regular expression that matches only this name."""
    return re.sub(r'([^\w-])', r'\\\1', name)


def _any_of(parts: Iterable[str]) -> str:
    return f'^({"|".join(dict.fromkeys(parts))})$'


def _note_on_replies(names: Names) -> str:
    return (
        f'This user may read each queue for replies that matches {names.reply_queue}, because '
        'oslo.messaging chooses the names. Only a user who knows the name of a queue can read it.'
    )
