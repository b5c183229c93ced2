"""The handler of the resource: it receives a batch of events and returns a code for each event.

The handler parses and validates a request, calls the resolver once, and builds the response.
``schemas`` defines valid bodies, and the resolver decides the codes.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from collections.abc import Sequence
import logging
import time
from typing import Any

import falcon
import orjson

from external_events_router import context
from external_events_router import events
from external_events_router import schemas
from external_events_router.api import bodies
from external_events_router.api import faults
from external_events_router.api import media
from external_events_router.api import policies
from external_events_router.api import refusals
from external_events_router.api import request_buffer
from external_events_router.api import router_client
from external_events_router.api import versions
from external_events_router.metrics import recorder

# NOTE: not the logger of oslo.log, which builds one more dict for each message.
LOG = logging.getLogger(__name__)


class ServerExternalEvents:
    """The resource ``os-server-external-events`` of one endpoint.

    :param max_events: maximum number of events in a request
    :param max_bytes: maximum bytes of a body
    :param max_tag_length: maximum characters of a tag; at most the limit of the schema
    :param none_found_status: status of the response if no event is for a known server
    :param legacy: the endpoint is ``/v2``: no microversions, unknown members are ignored
    """

    def __init__(
        self,
        client: router_client.RouterClient,
        enforcer: policies.Enforcer,
        *,
        max_events: int,
        max_bytes: int,
        max_tag_length: int,
        none_found_status: int,
        legacy: bool,
    ) -> None:
        self._client = client
        self._enforcer = enforcer
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._max_tag_length = max_tag_length
        self._none_found_status = none_found_status
        self._legacy = legacy

    def on_post(self, req: falcon.Request, resp: falcon.Response, project_id: str | None = None) -> None:
        """Answer a batch with a code per event: status 200 if all codes are 200, otherwise 207.

        :raises Fault: the whole request is refused; no event was delivered
        """
        started = time.monotonic()
        ctxt = _caller(req.env)
        version = events.MIN_MICROVERSION if self._legacy else versions.negotiate(req, resp)
        media.check(req.env)
        _check_project(ctxt, project_id)
        # NOTE: before the body is parsed, because parsing takes much longer than the policy check.
        policies.authorize(self._enforcer, ctxt)
        document = req.env[refusals.DOCUMENT] = bodies.parse(request_buffer.body_of(req.env, self._max_bytes))
        submitted = self._validated(document, version)
        batch = events.identify(submitted, ctxt.global_request_id)
        outcomes = self._client.route(ctxt, batch)
        elapsed = time.monotonic() - started
        _log_outcomes(outcomes, elapsed)
        recorder.current().batch_answered(outcomes, user=ctxt.user_name, seconds=elapsed)
        resp.content_type = media.wanted(req.env)
        self._render(resp, submitted, outcomes)

    def _validated(self, document: Any, version: events.Microversion) -> Sequence[Mapping[str, str]]:
        batch = document.get('events') if isinstance(document, dict) else None
        if isinstance(batch, list) and len(batch) > self._max_events:
            raise faults.Fault(
                413, f'events has {len(batch)} items; at most {self._max_events} are allowed in one request'
            )
        try:
            problem = schemas.request_problem(document, version, strict=not self._legacy)
        except RecursionError:
            problem = 'the body is nested too deep'
        if problem is None:
            problem = _tag_problem(document['events'], self._max_tag_length)
        if problem is not None:
            raise faults.Fault(400, f'Invalid input: {problem}')
        submitted: Sequence[Mapping[str, str]] = document['events']
        return submitted

    def _render(
        self,
        resp: falcon.Response,
        submitted: Sequence[Mapping[str, str]],
        outcomes: Sequence[events.Outcome],
    ) -> None:
        codes = {outcome.code for outcome in outcomes}
        if codes == {events.Code.NO_SUCH_SERVER} and self._none_found_status == 404:
            raise faults.Fault(404, 'No event of the request is for a known server.')
        answers = [_answer(event, outcome.code) for event, outcome in zip(submitted, outcomes, strict=True)]
        resp.status = falcon.HTTP_200 if codes == {events.Code.DELIVERED} else falcon.HTTP_207
        resp.data = orjson.dumps({'events': answers})


class ProjectRoot:
    """The root of a project below an endpoint: the version document, as at the root of the endpoint."""

    def __init__(self, document: versions.Document) -> None:
        self._document = document

    def on_get(self, req: falcon.Request, resp: falcon.Response, project_id: str) -> None:
        self._document(req, resp)
        _check_project(_caller(req.env), project_id)


def _caller(environ: dict[str, Any]) -> context.RequestContext:
    # NOTE: without the tokens: the context is sent over the broker. Its receivers need to know the
    # caller, but must not act in the name of the caller.
    return context.RequestContext.from_environ(environ, auth_token=None, service_token=None)


def _check_project(ctxt: context.RequestContext, project_id: str | None) -> None:
    if project_id is not None and project_id != ctxt.project_id:
        raise faults.Fault(
            400,
            f"Malformed request URL: its project id '{project_id}' is not "
            f"the project id of the caller, '{ctxt.project_id}'.",
        )


def _tag_problem(submitted: Sequence[Mapping[str, str]], max_length: int) -> str | None:
    """Describe the first tag that is too long or contains half a surrogate pair, which cannot be sent."""
    for i, event in enumerate(submitted):
        tag = event.get('tag', '')
        if len(tag) > max_length:
            return (
                f'events[{i}].tag is {tag[:60]!a}, which has {len(tag)} characters; '
                f'at most {max_length} are allowed here'
            )
        if not tag.isascii() and any('\ud800' <= char <= '\udfff' for char in tag):
            return f'events[{i}].tag is {tag[:60]!a}, which contains half a surrogate pair'
    return None


def _answer(submission: Mapping[str, str], code: events.Code) -> dict[str, Any]:
    # NOTE: this status is the result of the delivery, not the status of the event: an event that
    # was sent as failed is answered completed after delivery.
    answer: dict[str, Any] = {
        member: submission[member] for member in ('name', 'server_uuid', 'tag') if member in submission
    }
    answer['status'] = 'completed' if code == events.Code.DELIVERED else 'failed'
    answer['code'] = int(code)
    return answer


def _log_outcomes(outcomes: Sequence[events.Outcome], elapsed: float) -> None:
    # NOTE: an outcome with code 200 has a reason only if its event is held.
    counts = collections.Counter([(outcome.code, outcome.reason is not None) for outcome in outcomes])
    acknowledged, held = (counts.pop((events.Code.DELIVERED, is_held), 0) for is_held in (False, True))
    others: collections.Counter[events.Code] = collections.Counter()
    for (code, _has_reason), count in counts.items():
        others[code] += count
    LOG.info(
        'batch of %d events: %d acknowledged, %d held%s; %.3f s',
        len(outcomes),
        acknowledged,
        held,
        ''.join([f', {count} x {code:d}' for code, count in sorted(others.items())]),
        elapsed,
    )
    if LOG.isEnabledFor(logging.DEBUG):
        for outcome in outcomes:
            event = outcome.event
            # NOTE: %a escapes control characters of a tag.
            LOG.debug(
                'event %s: %s of %s, tag %a, status %s: %d, %a',
                *(event.id, event.name, event.server_uuid, event.tag, event.status),
                *(outcome.code, outcome.reason),
            )
