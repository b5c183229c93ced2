"""The call to the resolver: it has a time limit, is repeated once, and never raises an exception."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
import contextlib
import logging
import threading
from typing import Any
from unittest import mock

from oslo_context import context as oslo_context

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.api import router_client
from external_events_router.messaging.amqp import availability
from tests import base

BATCH = [events.Event('network-changed', '2b4b6f0a-7d3e-4c89-8a51-6e1f0c9d7a01', tag) for tag in 'ab']
DELIVERED = [events.Outcome(event, events.Code.DELIVERED) for event in BATCH]


class Script:
    """A resolver that performs one step per call."""

    bounded = False

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self.steps = list(steps)
        self.calls: list[tuple[list[events.Event], float, float]] = []

    def route(
        self,
        ctxt: context.RequestContext,
        batch: Sequence[events.Event],
        *,
        ack_timeout: float,
        timeout: float,
    ) -> list[events.Outcome]:
        self.calls.append((list(batch), ack_timeout, timeout))
        answer: list[events.Outcome] = self.steps.pop(0)()
        return answer


def delivered() -> list[events.Outcome]:
    return DELIVERED


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


class RouterClientTest(base.TestCase):
    """The clock of the deadlines is ``self.now``, and a step of a script can move it forward."""

    #: Also the limit of the real wait for a call, so it is longer than any call that ends.
    ACK_TIMEOUT = 30.0

    def setUp(self) -> None:
        super().setUp()
        self.now = 1000.0
        # Ends the calls that still block at the end of the test.
        self.released = threading.Event()
        self.addCleanup(self.released.set)
        self.hangs = threading.Event()

    @contextlib.contextmanager
    def calls_given_up(self) -> Iterator[list[float]]:
        """Replace the wait for a call that hangs by a step of the clock.

        :yields: the seconds of each wait
        """
        waits: list[float] = []

        def give_up(_future: object, timeout: float) -> None:
            self.assertTrue(self.hangs.wait(self.ACK_TIMEOUT))
            waits.append(timeout)
            self.now += timeout
            raise futures.TimeoutError

        with mock.patch.object(futures.Future, 'result', autospec=True, side_effect=give_up):
            yield waits

    def client(self, script: Script, *, threads: int = 4, ack_timeout: float = ACK_TIMEOUT) -> Any:
        return router_client.RouterClient(
            script, ack_timeout=ack_timeout, threads=threads, clock=lambda: self.now
        )

    def hang(self) -> list[events.Outcome]:
        self.hangs.set()
        self.released.wait()
        return DELIVERED

    def dies_after(self, seconds: float) -> Script:
        """A resolver that dies during the first call, and answers the second."""

        def die() -> Any:
            self.now += seconds
            raise exceptions.ResolverUnavailable(reason='died')

        script = Script(die, delivered)
        script.bounded = True
        return script

    def route(self, client: Any) -> list[events.Outcome]:
        outcomes: list[events.Outcome] = client.route(context.RequestContext(), BATCH)
        return outcomes

    def assert_undelivered(self, outcomes: list[events.Outcome]) -> None:
        self.assertEqual(BATCH, [outcome.event for outcome in outcomes])
        self.assertEqual({events.Code.UNDELIVERED}, {outcome.code for outcome in outcomes})
        self.assertTrue(all(outcome.reason for outcome in outcomes))

    def test_answer_is_returned(self) -> None:
        script = Script(delivered)
        self.assertEqual(DELIVERED, self.route(self.client(script)))
        ((batch, ack_timeout, timeout),) = script.calls
        self.assertEqual((BATCH, self.ACK_TIMEOUT), (batch, ack_timeout))
        # The resolver may hold events until just before the deadline of the request.
        self.assertAlmostEqual(self.ACK_TIMEOUT + router_client.CALL_MARGIN, timeout)

    def test_resolver_with_its_own_time_limits_is_called_directly(self) -> None:
        threads: list[threading.Thread] = []

        def answer() -> list[events.Outcome]:
            threads.append(threading.current_thread())
            return DELIVERED

        script = Script(answer, answer)
        self.route(self.client(script))
        script.bounded = True
        self.route(self.client(script))
        self.assertEqual([False, True], [thread is threading.current_thread() for thread in threads])

    def test_call_is_repeated_with_the_same_events_if_the_resolver_dies(self) -> None:
        script = Script(failing(exceptions.ResolverUnavailable(reason='died')), delivered)
        self.assertEqual(DELIVERED, self.route(self.client(script)))
        self.assertEqual([BATCH, BATCH], [batch for batch, _, _ in script.calls])
        self.assertIn('died; sending the batch to another resolver', self.logs.output)

    def test_second_call_gets_the_remaining_time(self) -> None:
        script = self.dies_after(0.6)
        self.assertEqual(DELIVERED, self.route(self.client(script, ack_timeout=0.5)))
        _, ack_timeout, timeout = script.calls[1]
        self.assertEqual(router_client.MIN_RETRY_ACK_TIMEOUT, ack_timeout)
        self.assertAlmostEqual(0.5 + router_client.GRACE - 0.6 - router_client.ANSWER_MARGIN, timeout)

    def test_second_call_without_time_for_hosts_holds_the_events(self) -> None:
        """The end of a resolver is noticed after 2 s, which is the complete default ack timeout."""

        script = self.dies_after(0.5)
        self.assertEqual(DELIVERED, self.route(self.client(script, ack_timeout=0.3)))
        (_, _, _), (_, ack_timeout, timeout) = script.calls
        self.assertEqual(0.05, ack_timeout)
        self.assertAlmostEqual(0.8 - router_client.ANSWER_MARGIN, timeout)

    def test_second_call_leaves_one_second_for_the_hold(self) -> None:
        script = self.dies_after(0.3)
        self.assertEqual(DELIVERED, self.route(self.client(script, ack_timeout=1.0)))
        (_, _, _), (_, ack_timeout, timeout) = script.calls
        self.assertAlmostEqual(0.7, ack_timeout)
        self.assertAlmostEqual(router_client.CALL_MARGIN, timeout - ack_timeout)

    def test_no_second_call_if_the_time_is_too_short_for_the_hold(self) -> None:
        script = self.dies_after(0.75)
        self.assert_undelivered(self.route(self.client(script, ack_timeout=0.1)))
        self.assertEqual(1, len(script.calls))

    def test_call_is_repeated_only_once(self) -> None:
        script = Script(*[failing(exceptions.ResolverUnavailable(reason='died'))] * 2)
        self.assert_undelivered(self.route(self.client(script)))
        self.assertEqual([], script.steps)

    def test_calls_that_are_not_repeated(self) -> None:
        for error in (
            exceptions.BrokerUnavailable(reason='away'),
            exceptions.DatabaseUnavailable(reason='away'),
            exceptions.MalformedMessage(what='outcome', value=None),
            ZeroDivisionError(),
        ):
            script = Script(failing(error))
            self.assert_undelivered(self.route(self.client(script)))
            self.assertEqual(1, len(script.calls))

    def test_answer_for_other_events_is_an_error(self) -> None:
        other = events.Outcome(events.Event('network-changed', BATCH[0].server_uuid), events.Code.DELIVERED)
        for answer in (DELIVERED[:1], [], [*DELIVERED, other], [other, other], DELIVERED[::-1]):
            self.assert_undelivered(self.route(self.client(Script(lambda answer=answer: answer))))

    def test_call_that_does_not_end(self) -> None:
        with self.calls_given_up() as waits:
            self.assert_undelivered(self.route(self.client(Script(self.hang))))
        self.assertEqual([self.ACK_TIMEOUT + router_client.GRACE], waits)

    def test_calls_that_do_not_end_do_not_delay_the_next_call(self) -> None:
        script = Script(self.hang, self.hang, delivered)
        client = self.client(script, threads=1)
        with self.calls_given_up():
            for _ in range(2):
                self.assert_undelivered(self.route(client))
        # The second call was given up before it began, so it is not made afterwards.
        self.assertEqual(1, len(script.calls))
        self.released.set()
        script.steps.pop(0)
        self.assertEqual(DELIVERED, self.route(client))

    def test_threads_are_reused(self) -> None:
        before = set(threading.enumerate())
        client = self.client(Script(*[delivered] * 50))
        for _ in range(50):
            self.route(client)
        self.assertEqual(1, len(set(threading.enumerate()) - before))

    def test_calls_run_in_parallel_up_to_the_number_of_threads(self) -> None:
        together = threading.Barrier(4)

        def meet() -> list[events.Outcome]:
            together.wait(30)
            return DELIVERED

        client = self.client(Script(*[meet] * 4), ack_timeout=30)
        answers: list[list[events.Outcome]] = []
        callers = [threading.Thread(target=lambda: answers.append(self.route(client))) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(30)
        self.assertEqual([DELIVERED] * 4, answers)

    def test_log_finds_the_request_on_the_thread_of_the_call(self) -> None:
        seen = []

        def look() -> list[events.Outcome]:
            seen.append(oslo_context.get_current())
            return DELIVERED

        ctxt = context.RequestContext()
        self.client(Script(look)).route(ctxt, BATCH)
        self.assertEqual([ctxt], seen)

    def test_unavailable_broker_or_resolver_is_one_warning(self) -> None:
        for error, repeated in (
            (exceptions.BrokerUnavailable(reason='away'), 0),
            (exceptions.ResolverUnavailable(reason='away'), 1),
        ):
            client = self.client(Script(*[failing(error)] * 20, delivered))
            logged = self.logged_levels(lambda client=client: [self.route(client) for _ in range(10)])
            self.assertEqual([logging.WARNING] * (repeated + 1), logged)
            self.assertEqual(DELIVERED, self.route(self.client(Script(delivered))))

    def test_lost_broker_that_its_connections_have_logged_is_not_logged_again(self) -> None:
        client = self.client(Script(*[failing(exceptions.BrokerUnavailable(reason='away'))] * 3))
        lost = mock.patch.object(availability, 'any_lost', autospec=True, return_value=True)
        with lost:
            logged = self.logged_levels(lambda: [self.route(client) for _ in range(3)])
        self.assertEqual([logging.DEBUG], logged)

    def test_end_of_a_failure_is_logged(self) -> None:
        client = self.client(Script(failing(exceptions.BrokerUnavailable(reason='away')), delivered))
        self.route(client)
        self.assertIn(
            'Could not route 2 events; answering 503 for each, and they are lost: the message',
            self.logs.output,
        )
        self.route(client)
        self.assertIn('Events are routed again', self.logs.output)

    def test_other_errors_of_the_resolver_are_logged_at_intervals(self) -> None:
        client = self.client(Script(*[failing(exceptions.MalformedMessage(what='x', value=None))] * 5))
        logged = self.logged_levels(lambda: [self.route(client) for _ in range(5)])
        self.assertEqual([logging.ERROR], logged)

    def logged_levels(self, call: Callable[[], object]) -> list[int]:
        """The levels of the messages that the client logs during a call."""
        levels: list[int] = []
        handler = logging.Handler()
        handler.emit = lambda record: levels.append(record.levelno)  # type: ignore[method-assign]
        logger = router_client.LOG.logger
        logger.addHandler(handler)
        try:
            call()
        finally:
            logger.removeHandler(handler)
        return levels
