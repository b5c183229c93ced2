"""Rows of the journal for tests: each with what matters for the test, the rest is ordinary."""

from external_events_router.journal import reasons
from external_events_router.journal import records
from external_events_router.journal import timeline

SERVER = '00000001-0000-4000-8000-000000000000'
PORT = 'port-1'

#: The time to which those of a test are relative, in microseconds.
START = 1_790_000_000 * records.SECOND

HANDLED = records.Handling(waiter=True, wait_ms=2000)
NO_WAITER = records.Handling(waiter=False)
HANDLER_ONLY = records.Handling(waiter=False, handler='exec', handler_ms=12)
AFTER_WAIT = records.Handling(waiter=False, wait_ms=-12_000)


def at(seconds):
    """A time in microseconds."""
    return START + int(seconds * records.SECOND)


def request(**fields):
    """A request that was routed."""
    return records.RequestRow(
        **{
            'received_at': START,
            'worker': 1,
            'seq': 1,
            'events': 1,
            'request_id': 'req-own',
            'global_request_id': 'req-sender',
            'user_id': 'neutron',
            'project_id': 'service',
            'duration_ms': 20,
            **fields,
        }
    )


def event(seconds=0, reason=reasons.Reason.ACKNOWLEDGED, **fields):
    """An event that was received at a time, on host-a."""
    reason = reasons.Reason(reason)
    return records.EventRow(
        **{
            'received_at': at(seconds),
            'worker': 1,
            'seq': int(seconds * 1000) + 1,
            'event_id': 'event-1',
            'server_uuid': SERVER,
            'name': 'network-vif-plugged',
            'tag': PORT,
            'status': 'completed',
            'code': int(reasons.CODES[reason]),
            'reason': reason,
            'detail': None,
            'hosts': ('host-a',),
            'ack_ms': 12 if reason is reasons.Reason.ACKNOWLEDGED else None,
            'handling': None,
            'replayed': False,
            'request': request(),
            **fields,
        }
    )


def step(seconds, kind, **fields):
    """A step of event-1."""
    return records.StepRow(
        **{
            'at': at(seconds),
            'worker': 1,
            'seq': int(seconds * 1000) + 1,
            'event_id': 'event-1',
            'server_uuid': SERVER,
            'kind': reasons.Step(kind),
            'host': None,
            'detail': None,
            'attempt': None,
            'actor': None,
            'handling': None,
            **fields,
        }
    )


def refusal(reason, status, seconds=0, **fields):
    """A request that was refused."""
    return records.RefusalRow(
        **{
            'at': at(seconds),
            'worker': 1,
            'seq': 1,
            'status': status,
            'reason': reasons.Refusal(reason),
            'detail': 'The request you have made requires authentication',
            'user_id': None,
            'user_name': None,
            'project_id': None,
            'address': '192.0.2.7',
            'request_id': 'req-own',
            'global_request_id': None,
            'suppressed': 0,
            'servers': (),
            'names': (),
            **fields,
        }
    )


def gap(reason, start=0, end=10, **fields):
    """A period without complete records."""
    return records.Gap(
        **{
            'worker': 1,
            'worker_name': 'controller:1',
            'reason': reasons.GapReason(reason),
            'from_at': at(start),
            'to_at': at(end),
            'from_seq': None,
            'to_seq': None,
            'missing': None,
            **fields,
        }
    )


def action(name='create', start=0, end=301, error='VirtualInterfaceCreateException', **fields):
    """An action of Nova whose host begins to wait a second after its start."""
    return timeline.ServerAction(
        name,
        'req-nova',
        at(start),
        wait_started_at=at(start + 1),
        finished_at=None if end is None else at(end),
        error=error,
        **fields,
    )


def history(*events, **fields):
    """The records of the server in ten minutes."""
    return timeline.History(SERVER, at(-60), at(540), events=events, **fields)
