"""The next step of each verdict: a command, or a message to search for, with its log and host.

Pure functions. The messages of Nova, Neutron, Cinder, Ironic and Cyborg are those of the
releases 2024.1 to 2026.2; a test compares those of this service with its sources.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import shlex

from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import timeline

#: Which service posts an event, by the beginning of its name: the service, and its log file.
SENDERS = (
    ('network-', 'Neutron', '/var/log/neutron/neutron-server.log'),
    ('volume-', 'Cinder', '/var/log/cinder/cinder-volume.log'),
    ('power-', 'Ironic', '/var/log/ironic/ironic-conductor.log'),
    ('accelerator-', 'Cyborg', '/var/log/cyborg/cyborg-conductor.log'),
)

#: What Neutron, Cinder and Cyborg write if they cannot post events.
NOT_POSTED = 'Failed to notify nova on events'

#: The log of nova-compute, and its messages about an event.
COMPUTE_LOG = '/var/log/nova/nova-compute.log'
RECEIVED = 'Received event'
NO_WAITER = 'No waiting events found dispatching'
UNEXPECTED = 'Received unexpected event'
TIMEOUT = 'Timeout waiting for'

#: Messages of our agents and resolvers.
AGENT_HANDLER = 'The handler for'
RESOLVER_NOT_HELD = 'could not be held'

MANAGE = 'external-events-manage'


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """What runs on the hosts.

    :ivar nova: nova-compute; else our agent
    :ivar broker_acknowledges: nova-compute sends no answer, ``[nova] acknowledge = broker``
    """

    nova: bool = False
    broker_acknowledges: bool = False

    @property
    def service(self) -> str:
        """The systemd unit on a host."""
        return 'openstack-nova-compute' if self.nova else 'external-events-agent'


@dataclasses.dataclass(frozen=True, slots=True)
class NextStep:
    """The next step of the reader.

    :ivar text: one sentence
    :ivar command: to be run; None: the step is a search
    :ivar search: the message to search for; None: the step is a command
    :ivar log: where to search: a file, or a systemd unit
    :ivar host: where to run the command or to find the log; None: where the router runs
    """

    text: str
    command: str | None = None
    search: str | None = None
    log: str | None = None
    host: str | None = None


def look_at_sender(history: timeline.History, site: Site) -> NextStep:
    """Return the step if no event was posted: the log of the sender states why."""
    name = history.name or ('network-' if history.port is not None else '')
    senders = [sender for sender in SENDERS if name.startswith(sender[0])] or [SENDERS[0]]
    _prefix, service, log = senders[0]
    about = history.port or history.server_uuid
    return NextStep(
        f'Search the log of {service} for this message, and for {about}; if there is neither, {service} had '
        'no reason to post: look at the state of the port or volume.',
        search=NOT_POSTED,
        log=log,
        host=f'the hosts of {service}',
    )


def look_at_worker(gap: records.Gap) -> NextStep:
    """A worker is silent: it was killed, or it cannot reach the journal."""
    return NextStep(
        f'Check that {gap.worker_name} runs and reaches the database of the journal; if its machine was '
        f'removed, run "{MANAGE} journal end-worker {gap.worker}".',
        command=f'{MANAGE} journal workers',
    )


def after_refusal(refusal: records.RefusalRow) -> NextStep:
    """Return the step if a request was refused; it depends on the reason."""
    user = refusal.user_name or refusal.user_id
    match refusal.reason:
        case reasons.Refusal.NOT_PERMITTED if user:
            return NextStep(
                'Show the roles of the sender, and add the role that the policy asks for.',
                command=shlex.join(['openstack', 'role', 'assignment', 'list', '--names', '--user', user]),
            )
        case reasons.Refusal.NOT_AUTHENTICATED | reasons.Refusal.NOT_PERMITTED:
            return NextStep(
                'Search the log of the sender, and correct the user and password in its section [nova].',
                search=NOT_POSTED,
                log=SENDERS[0][2],
                host=refusal.address,
            )
        case reasons.Refusal.TOO_LARGE:
            return NextStep(
                'Search the log of the sender for the request, and compare the size of its batch with [api] '
                'max_events and [oslo_middleware] max_request_body_size.',
                search=refusal.global_request_id or refusal.request_id or NOT_POSTED,
                log=SENDERS[0][2],
                host=refusal.address,
            )
        case reasons.Refusal.KEYSTONE_UNAVAILABLE:
            return NextStep('Check that Keystone answers.', command='openstack token issue')
    request = refusal.global_request_id or refusal.request_id
    return NextStep(
        'Search the log of the sender for the request, and correct what the API refused.',
        search=request or NOT_POSTED,
        log=SENDERS[0][2],
        host=refusal.address,
    )


def correct_sender(event: records.EventRow) -> NextStep:
    """Return the step if the API refused one event: its sender posts a wrong tag."""
    sender = _sender(event)
    return NextStep(
        f'Search the log of {sender[1]} for the request, and correct the tag of the event.',
        search=_request(event) or NOT_POSTED,
        log=sender[2],
        host=f'the hosts of {sender[1]}',
    )


def show_server(event: records.EventRow, site: Site) -> NextStep:
    """Return the step if the server is unknown or on no host."""
    if site.nova:
        columns = ['-c', 'status', '-c', 'OS-EXT-SRV-ATTR:host', '-c', 'OS-EXT-STS:task_state']
        command = shlex.join(['openstack', 'server', 'show', event.server_uuid, *columns])
        return NextStep('Show the state and the host of the server in Nova.', command=command)
    return NextStep(
        'Show the hosts of the server in the host map.', command=f'{MANAGE} host-map show {event.server_uuid}'
    )


def search_handler(event: records.EventRow, hosts: Sequence[str], site: Site) -> NextStep:
    """Return the step if a handler failed: its log states why."""
    if site.nova:
        return NextStep(
            'Search the log of nova-compute for the request, and read the error below it.',
            search=_request(event) or RECEIVED,
            log=COMPUTE_LOG,
            host=_named(hosts),
        )
    return NextStep(
        'Search the log of the agent for this message, and read the error below it.',
        search=f'{AGENT_HANDLER} {event.name} of server {event.server_uuid}',
        log=site.service,
        host=_named(hosts),
    )


def search_resolver(event: records.EventRow) -> NextStep:
    """Return the step if the router lost an event: the log of the resolver states why."""
    return NextStep(
        'Search the log of the resolvers for this message, and repair the database that it names.',
        search=RESOLVER_NOT_HELD,
        log='external-events-resolver',
    )


def start_resolvers() -> NextStep:
    """Return the step if the API reached no resolver."""
    return NextStep('Check that the resolvers run.', command='systemctl status external-events-resolver')


def check_host(hosts: Sequence[str], site: Site) -> NextStep:
    """Return the step if a host does not respond."""
    return NextStep(
        f'Check that {site.service} runs on the host and is connected to the broker.',
        command=f'systemctl status {site.service}',
        host=_named(hosts),
    )


def check_broker() -> NextStep:
    """Return the step if the broker did not accept messages."""
    return NextStep(
        'Check the nodes and the alarms of RabbitMQ.', command='rabbitmqctl cluster_status', host='the broker'
    )


def list_held(event: records.EventRow) -> NextStep:
    """Later records of an event may be missing: the database of held events states whether it is held."""
    return NextStep(
        'Check whether the event is held now.',
        command=f'{MANAGE} held list --server {event.server_uuid}',
    )


def after_expiry(event: records.EventRow, site: Site) -> NextStep:
    """Return the step if an event expired: it can be held again."""
    return NextStep(
        f'Check that {site.service} runs on {_named(event.hosts) or "its host"}, then send the event again.',
        command=f'{MANAGE} held retry {event.event_id}',
    )


def send_again(event: records.EventRow) -> NextStep:
    """Return the step if an operator dropped the event."""
    since = (event.received_at // records.SECOND) - 1
    return NextStep(
        'Send the event again if it is still needed.',
        command=f'{MANAGE} replay --server {event.server_uuid} --since {since} --name {event.name}',
    )


def compare_times(event: records.EventRow, hosts: Sequence[str], site: Site) -> NextStep:
    """Return the step if an event came too early or too late: its sender decides when it is posted."""
    sender = _sender(event)
    if site.nova:
        return NextStep(
            f'Compare the time at which {sender[1]} posted the event with this message.',
            search=f'{TIMEOUT}',
            log=COMPUTE_LOG,
            host=_named(hosts),
        )
    return NextStep(
        'Search the log of the service that waits on the host for this server, and compare the time at '
        f'which it began to wait with the time at which {sender[1]} posted the event.',
        search=event.server_uuid,
        log=site.service,
        host=_named(hosts),
    )


def search_compute(event: records.EventRow, hosts: Sequence[str]) -> NextStep:
    """Return the step if only nova-compute knows whether a waiter received the event."""
    key = event.name if event.tag is None else f'{event.name}-{event.tag}'
    return NextStep(
        f'Search the log of nova-compute for this message; "{NO_WAITER}" or "{UNEXPECTED}" with {key} mean '
        'that nothing waited for the event.',
        search=f'{RECEIVED} {key}',
        log=COMPUTE_LOG,
        host=_named(hosts),
    )


def search_wait(event: records.EventRow, hosts: Sequence[str], site: Site) -> NextStep:
    """Return the step if the event was delivered: the records of the router end here."""
    return NextStep(
        'If the server timed out nevertheless, another event is missing: search the log of the host.',
        search=f'{TIMEOUT}' if site.nova else event.server_uuid,
        log=COMPUTE_LOG if site.nova else site.service,
        host=_named(hosts),
    )


def _sender(event: records.EventRow) -> tuple[str, str, str]:
    return next((sender for sender in SENDERS if event.name.startswith(sender[0])), SENDERS[0])


def _request(event: records.EventRow) -> str | None:
    request = event.request
    return None if request is None else request.global_request_id or request.request_id


def _named(hosts: Sequence[str]) -> str | None:
    # NOTE: a host of a cell is <host>@<cell>; an operator knows it by its first part.
    return ', '.join(host.partition('@')[0] for host in hosts) or None
