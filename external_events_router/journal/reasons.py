"""The closed lists of the journal: results of events, later steps, refusals, gaps.

The values are stored in the database. Add values, and never change the meaning of one.
"""

from __future__ import annotations

from collections.abc import Mapping
import enum
import types

from external_events_router import events


class Reason(enum.StrEnum):
    """Why an event has its code. Each reason has exactly one code, see :data:`CODES`.

    The reasons that begin with ``held_`` state why the router keeps an event to deliver it
    later.
    """

    #: All hosts of the server handled the event.
    ACKNOWLEDGED = 'acknowledged'
    #: The broker accepted the message for nova-compute, and nova-compute sends no answer.
    HANDED_TO_BROKER = 'handed_to_broker'
    #: The queue of the host does not exist or has no consumer.
    HELD_NO_QUEUE = 'held_no_queue'
    #: The host did not acknowledge in time, or its circuit breaker was open.
    HELD_SILENT_HOST = 'held_silent_host'
    #: The broker did not accept the message, or acknowledgements could not arrive.
    HELD_BROKER_UNAVAILABLE = 'held_broker_unavailable'
    #: An earlier event of the server is held, and events of a server keep their order.
    HELD_BEHIND = 'held_behind'
    #: No host had the server, and the host map could not be read again.
    HELD_MAP_UNAVAILABLE = 'held_map_unavailable'
    #: The server is on no host, and ``[delivery] hold_unassigned`` is set.
    HELD_UNASSIGNED = 'held_unassigned'
    #: Another reason, which ``detail`` states.
    HELD_OTHER = 'held_other'
    #: The event needs a tag, or its tag has no meaning.
    BAD_TAG = 'bad_tag'
    #: The host map does not know the server.
    UNKNOWN_SERVER = 'unknown_server'
    #: The server is on no host.
    NO_HOST = 'no_host'
    #: The server was not on any of the hosts that the host map named.
    NOT_ON_HOST = 'not_on_host'
    #: A handler on a host failed or refused the event.
    HANDLER_FAILED = 'handler_failed'
    #: The host map could not be read.
    MAP_UNAVAILABLE = 'map_unavailable'
    #: A host did not acknowledge, and the event could not be held. ``detail`` states why.
    NOT_HELD = 'not_held'


#: The code of each reason.
CODES: Mapping[Reason, events.Code] = types.MappingProxyType(
    {
        Reason.ACKNOWLEDGED: events.Code.DELIVERED,
        Reason.HANDED_TO_BROKER: events.Code.DELIVERED,
        Reason.HELD_NO_QUEUE: events.Code.DELIVERED,
        Reason.HELD_SILENT_HOST: events.Code.DELIVERED,
        Reason.HELD_BROKER_UNAVAILABLE: events.Code.DELIVERED,
        Reason.HELD_BEHIND: events.Code.DELIVERED,
        Reason.HELD_MAP_UNAVAILABLE: events.Code.DELIVERED,
        Reason.HELD_UNASSIGNED: events.Code.DELIVERED,
        Reason.HELD_OTHER: events.Code.DELIVERED,
        Reason.BAD_TAG: events.Code.BAD_TAG,
        Reason.UNKNOWN_SERVER: events.Code.NO_SUCH_SERVER,
        Reason.NO_HOST: events.Code.NO_HOST,
        Reason.NOT_ON_HOST: events.Code.NO_HOST,
        Reason.HANDLER_FAILED: events.Code.REFUSED,
        Reason.MAP_UNAVAILABLE: events.Code.UNDELIVERED,
        Reason.NOT_HELD: events.Code.UNDELIVERED,
    }
)

#: Reasons of events that need no attention; ``[journal] record = problems`` leaves them out.
ORDINARY = frozenset({Reason.ACKNOWLEDGED, Reason.HANDED_TO_BROKER})

#: Reasons of events that the router keeps to deliver them later.
HELD = frozenset(reason for reason in Reason if reason.startswith('held_'))


class Step(enum.StrEnum):
    """What happened to an event after its batch was answered."""

    #: An operator requested that an ended event is held again.
    HELD = 'held'
    #: The event was sent to a host again, and the host did not handle it.
    ATTEMPT = 'attempt'
    #: All hosts have acknowledged the event.
    DELIVERED = 'delivered'
    #: The deadline passed.
    EXPIRED = 'expired'
    #: A handler on a host failed or refused the event.
    REFUSED = 'refused'
    #: The server no longer exists.
    GONE = 'gone'
    #: The stored event cannot be read.
    DAMAGED = 'damaged'
    #: An operator dropped the event.
    DROPPED = 'dropped'
    #: An operator requested that the event is sent again.
    REPLAYED = 'replayed'
    #: A host acknowledged after the router had stopped waiting for it.
    LATE_ACK = 'late_ack'


#: Steps after which an event is not delivered again, unless an operator intervenes.
LAST_STEPS = frozenset({Step.DELIVERED, Step.EXPIRED, Step.REFUSED, Step.GONE, Step.DAMAGED, Step.DROPPED})


class Refusal(enum.StrEnum):
    """Why a request was refused as a whole, or not routed."""

    #: 400: the body or a header is invalid.
    BAD_REQUEST = 'bad_request'
    #: 401: the token is missing, invalid or expired.
    NOT_AUTHENTICATED = 'not_authenticated'
    #: 403: the policy does not allow the sender to post events.
    NOT_PERMITTED = 'not_permitted'
    #: 404: no such path, or no event names a known server.
    NOT_FOUND = 'not_found'
    #: 413: the body has too many events or bytes.
    TOO_LARGE = 'too_large'
    #: 406, 415 and other errors of the sender.
    OTHER = 'other'
    #: 429 or 503: the API had no free capacity.
    OVERLOADED = 'overloaded'
    #: 503: Keystone did not answer.
    KEYSTONE_UNAVAILABLE = 'keystone_unavailable'
    #: 500: an error of the API.
    FAILED = 'failed'
    #: The API did not reach a resolver; each event has code 503.
    NOT_ROUTED = 'not_routed'


class GapReason(enum.StrEnum):
    """Why the record of a period is incomplete."""

    #: The queue of the writer was full: the database was too slow or unavailable.
    QUEUE_FULL = 'queue_full'
    #: The database refused the rows, or the worker stopped before it could write them.
    DATABASE = 'database'
    #: The worker was killed; the records that it had not written are lost.
    KILLED = 'killed'
    #: The worker runs and has not written the end of the period yet.
    NOT_WRITTEN_YET = 'not_written_yet'
    #: The worker has not written for some time: it was killed, or it runs and cannot reach the database.
    SILENT = 'silent'
    #: No worker was running: requests were not accepted.
    NO_WORKER = 'no_worker'
    #: ``[journal] record`` is ``problems`` or ``none`` for a worker.
    NOT_RECORDED = 'not_recorded'
    #: The rows of the period have been deleted, see ``[journal] keep`` and ``max_rows``.
    DELETED = 'deleted'
    #: The API did not reach a resolver that records its refusals.
    NOT_ROUTED = 'not_routed'
