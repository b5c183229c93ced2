"""Hosts, replay, the host map, the overall state, and the actions of operators."""

from __future__ import annotations

from collections.abc import Mapping

from external_events_router import exceptions
from external_events_router.admin import calls
from external_events_router.admin import etags
from external_events_router.admin import paging
from external_events_router.admin import parameters
from external_events_router.api import faults
from external_events_router.operations import actions
from external_events_router.operations import events as event_operations
from external_events_router.operations import host_map
from external_events_router.operations import hosts as operation
from external_events_router.operations import replay
from external_events_router.operations import summary as summaries
from external_events_router.operations import times
from external_events_router.resolver import host_overview

#: Seconds for the questions to the broker about the queues of one page.
QUEUE_TIMEOUT = 3.0

#: Hosts that one request reads at most to find hosts with a problem.
MOST_READ = 2000

#: Seconds for which one request sends events again at most.
REPLAY_TIME = 60.0


def list_hosts(call: calls.Call) -> calls.Answer:
    """List hosts by name."""
    overview = host_overview.HostOverview(call.services.database)
    found: list[dict[str, object]] = []
    after, read = call.query['marker'], 0
    more = True
    while more and len(found) < call.limit and read < MOST_READ:
        wanted = call.limit - len(found)
        page = overview.page(after=after, limit=wanted + 1)
        more, page = len(page) > wanted, page[:wanted]
        found += _described(call, page, only_problems=call.query['problem'])
        after, read = page[-1].name if page else after, read + len(page)
    return paging.page(call, 'hosts', found, after if more else None)


def show_host(call: calls.Call) -> calls.Answer:
    """Show one host."""
    (host,) = host_overview.HostOverview(call.services.database).of([call.params['host']])
    if not (host.servers or host.held or host.breakers) and host.reported_at is None:
        raise faults.Fault(404, f'The database does not contain the host {host.name}.')
    (document,) = _described(call, [host])
    return calls.Answer(document)


def _described(
    call: calls.Call, hosts: list[host_overview.Host], *, only_problems: bool = False
) -> list[dict[str, object]]:
    conf = call.services.conf
    queues: Mapping[str, int | None] = {}
    if call.query['queues']:
        queues, _ = operation.ask_queues(conf, [host.name for host in hosts], timeout=QUEUE_TIMEOUT)
    return list(operation.list_hosts(conf, hosts, queues, only_problems=only_problems))


def replay_host(call: calls.Call) -> calls.Answer:
    """Send recorded events of a host again, or only count them."""
    services, body = call.services, call.body
    chosen = event_operations.Filter(host=call.params['host'], name=frozenset(body.get('name', ())))
    now = services.rows.now()
    since = max(parameters.moment(body['since']).seconds(now), now - services.conf.journal.keep)
    plan = replay.plan(
        services.conf,
        services.rows,
        chosen,
        since=since,
        force=body.get('force', False),
        most=services.conf.admin.max_replay,
    )
    if body.get('dry_run', False):
        return calls.Answer({'dry_run': True, 'due': len(plan.chosen), 'names': plan.counts()})
    described = {
        'host': chosen.host,
        'since': times.utc(since),
        'name': sorted(chosen.name),
        'force': body.get('force', False),
    }
    with call.recording('replay', described) as done:
        outcomes = []
        if plan.chosen:
            with replay.resolver(services.conf) as api:
                sent = replay.send(
                    api,
                    plan.chosen,
                    ack_timeout=services.conf.delivery.ack_timeout,
                    actor=call.operator.name,
                    end=event_operations.instant(REPLAY_TIME),
                    is_due=plan.is_due,
                )
                outcomes = list(sent)
        done.number = len(outcomes)
    names = replay.results(plan.selected, outcomes)
    return calls.Answer(
        {
            'dry_run': False,
            'sent': len(outcomes),
            'not_sent': len(plan.chosen) - len(outcomes),
            'names': names,
        }
    )


def show_servers_hosts(call: calls.Call) -> calls.Answer:
    """Show the hosts of a server."""
    host_map.check_writable(call.services.conf)
    document = host_map.show(call.services.host_map, call.params['server'])
    return calls.Answer(document, headers={'ETag': etags.of(document)})


def assign(call: calls.Call) -> calls.Answer:
    """Add a host to the hosts of a server; an unknown server becomes known."""
    with call.recording('host-map:assign', call.params) as done:
        expected = _expected(call)
        document = host_map.assign(
            call.services.host_map, call.params['server'], call.params['host'], expected=expected
        )
        done.number = 1
    return calls.Answer(document, headers={'ETag': etags.of(document)})


def unassign(call: calls.Call) -> calls.Answer:
    """Remove a host from the hosts of a server; the server stays known."""
    with call.recording('host-map:unassign', call.params) as done:
        expected = _expected(call)
        document = host_map.unassign(
            call.services.host_map, call.params['server'], call.params['host'], expected=expected
        )
        done.number = 1
    return calls.Answer(document, headers={'ETag': etags.of(document)})


def forget(call: calls.Call) -> calls.Answer:
    """Delete a server from the host map."""
    with call.recording('host-map:forget', call.params) as done:
        host_map.forget(call.services.host_map, call.params['server'], expected=_expected(call))
        done.number = 1
    return calls.Answer(None, status=204)


def _expected(call: calls.Call) -> list[str] | None:
    """The hosts of the server in the version of ``If-Match``; None: any version is permitted."""
    host_map.check_writable(call.services.conf)
    if call.if_match is None:
        return None
    try:
        document = host_map.show(call.services.host_map, call.params['server'])
    except exceptions.NoSuchServer as exc:
        raise faults.Fault(412, f'{exc}, so that If-Match cannot match.') from exc
    hosts: list[str] = document['hosts']
    return hosts if etags.check(call.if_match, document) else None


def summary(call: calls.Call) -> calls.Answer:
    """Show the overall state."""
    return calls.Answer(summaries.summary(call.services.database, call.services.rows))


def doctor(call: calls.Call) -> calls.Answer:
    """Check the installation, from the machine of the admin API."""
    # NOTE: imported here, because it imports all services.
    from external_events_router.operations import doctor as operation

    if not call.services.doctor.acquire(blocking=False):
        raise faults.Fault(503, 'Another request checks the installation. Try again later.')
    try:
        worst, results = operation.run(call.services.conf, service=call.query['service'])
    finally:
        call.services.doctor.release()
    return calls.Answer({'status': worst.name, 'checks': results})


def list_actions(call: calls.Call) -> calls.Answer:
    """List the actions of operators, the newest first."""
    since = times.microseconds(call.query['since'].seconds(call.services.rows.now()))
    rows, after = actions.page(
        call.services.actions, since=since, after=call.query['marker'], limit=call.limit
    )
    marker = None if after is None else '-'.join(map(str, after))
    return paging.page(call, 'actions', [actions.document(row) for row in rows], marker)
