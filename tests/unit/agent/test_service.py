import threading
import time
from unittest import mock

from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import dispatcher
from external_events_router.agent import fleet
from external_events_router.agent import handlers
from external_events_router.agent import service
from external_events_router.agent import sources
from tests import base
from tests import casting
from tests.unit.agent import helpers


class AgentTestCase(base.TestCase):
    def setUp(self):
        super().setUp()
        self.resolver = self.useFixture(helpers.Resolver())

    def _deliver(self, host, *batch, **kwargs):
        delivery = self.resolver.delivery(*batch, **kwargs)
        casting.deliver(self.resolver.transport, host, delivery)
        return delivery

    def _wait_for_acks(self, *batch):
        wanted = {event.id for event in batch}
        helpers.wait_until(lambda: wanted <= self.resolver.acks.verdicts().keys())


class TestAgent(AgentTestCase):
    def _agent(self, host='a', **kwargs):
        agent = service.Agent(self.resolver.transport, host, **kwargs)
        agent.start()
        self.addCleanup(agent.stop, helpers.PATIENCE)
        return agent

    def test_prepare_then_act_then_wait_for_the_event(self):
        agent = self._agent()
        event = helpers.event('network-vif-plugged', tag='p', status='failed')
        with agent.expect(
            helpers.SERVER, [('network-vif-plugged', 'p')], timeout=helpers.PATIENCE
        ) as expected:
            self._deliver('a', event)
            self.assertEqual({('network-vif-plugged', 'p'): event}, expected.wait())
        self._wait_for_acks(event)

    def test_deliveries_are_handled_in_order(self):
        agent = self._agent()
        handled = []
        agent.on('*', lambda ctxt, event: handled.append(event.tag))
        batch = [helpers.event(tag=str(number)) for number in range(200)]
        for start in range(0, 200, 2):
            self._deliver('a', *batch[start : start + 2])
        self._wait_for_acks(*batch)
        self.assertEqual([event.tag for event in batch], handled)

    def test_decorator_registers_a_handler(self):
        agent, handled = self._agent(), threading.Event()

        @agent.on('network-changed')
        def changed(ctxt, event):
            handled.set()

        self._deliver('a', helpers.event())
        self.assertTrue(handled.wait(helpers.PATIENCE))

    def test_reports_return_the_time_of_the_resolver(self):
        self.resolver.ahead = -500.0
        agent = self._agent()
        helpers.wait_until(lambda: self.resolver.reports == [('a', None)])
        helpers.wait_until(lambda: agent._runtime.clock.now() < time.time() - 400)
        event = helpers.event()
        # The event is late by the clock of the agent, but not by the clock of the resolver.
        self._deliver('a', event)
        self._wait_for_acks(event)

    def test_malformed_delivery_affects_no_other(self):
        self._agent()
        bad = events.Event('network-changed', None)
        casting.deliver(self.resolver.transport, 'a', self.resolver.delivery(bad))
        good = helpers.event()
        self._deliver('a', good)
        self._wait_for_acks(good)

    def test_stop_finishes_the_current_events(self):
        agent = service.Agent(self.resolver.transport, 'a')
        agent.start()
        entered, release = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        @agent.on('*')
        def handle(ctxt, event):
            entered.set()
            release.wait(helpers.PATIENCE)

        event = helpers.event()
        self._deliver('a', event)
        self.assertTrue(entered.wait(helpers.PATIENCE))
        stopper = threading.Thread(target=agent.stop, args=[helpers.PATIENCE])
        stopper.start()
        self.assertFalse(agent.wait(0.01))
        release.set()
        stopper.join(helpers.PATIENCE)
        self.assertTrue(agent.wait(0))
        self._wait_for_acks(event)
        self._deliver('a', helpers.event())
        self.assertEqual(1, len(self.resolver.acks.results()))

    def test_stop_ends_at_its_timeout(self):
        agent = service.Agent(self.resolver.transport, 'a')
        agent.start()
        entered, release = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        @agent.on('*')
        def handle(ctxt, event):
            entered.set()
            release.wait(helpers.PATIENCE)

        self._deliver('a', helpers.event())
        self.assertTrue(entered.wait(helpers.PATIENCE))
        before = time.monotonic()
        agent.stop(0.5)
        self.assertLess(time.monotonic() - before, helpers.PATIENCE / 2)
        self.assertIn('Host a: stopping with 1 unfinished events', self.logs.output)

    def test_stop_logs_how_many_deliveries_had_no_message(self):
        agent = service.Agent(self.resolver.transport, 'a')
        agent.on('*', mock.Mock(side_effect=exceptions.Refused(reason='no')))
        agent.start()
        batch = [helpers.event() for _ in range(dispatcher.MESSAGES + 30)]
        for event in batch:
            self._deliver('a', event)
        self._wait_for_acks(*batch)
        self.assertNotIn('more messages', self.logs.output)
        agent.stop(helpers.PATIENCE)
        self.assertRegex(self.logs.output, '(29|30) more messages about events were not written')

    def test_stop_wakes_waiters(self):
        agent = service.Agent(self.resolver.transport, 'a')
        agent.start()
        with agent.expect(helpers.SERVER, [('network-changed', None)]) as expected:
            agent.stop(helpers.PATIENCE)
            self.assertRaises(exceptions.AgentStopped, expected.wait)

    def test_agent_is_built_from_the_configuration(self):
        self.resolver.conf.set_override('topic', 'others', 'compute')
        agent = service.Agent.from_conf(self.resolver.conf, self.resolver.transport, 'a')
        agent.start()
        self.addCleanup(agent.stop, helpers.PATIENCE)
        event = helpers.event()
        casting.deliver(self.resolver.transport, 'a', self.resolver.delivery(event), topic='others')
        self._wait_for_acks(event)
        self.assertIn('Event network-changed of server', self.logs.output)


class TestWithoutResolver(base.TestCase):
    def test_agent_starts_handles_events_and_stops(self):
        resolver = self.useFixture(helpers.Resolver(away=True))
        agent = service.Agent(resolver.transport, 'a')
        handled = threading.Event()
        agent.on('*', lambda ctxt, event: handled.set())
        agent.start()
        casting.deliver(resolver.transport, 'a', helpers.delivery(helpers.event()))
        self.assertTrue(handled.wait(helpers.PATIENCE))
        before = time.monotonic()
        agent.stop(helpers.PATIENCE)
        # The agent does not wait for the unanswered report.
        self.assertLess(time.monotonic() - before, 8)


class Source(sources.NoSource):
    """A source with one server, which is on host ``a``."""

    def servers(self, host):
        return {helpers.SERVER} if host == 'a' else frozenset()


class TestFleet(AgentTestCase):
    def _fleet(self, *hosts, **kwargs):
        made = fleet.Fleet.from_conf(self.resolver.conf, self.resolver.transport, hosts, **kwargs)
        made.start()
        self.addCleanup(made.stop, helpers.PATIENCE)
        return made

    def test_each_host_receives_its_own_events(self):
        made = self._fleet('a', 'b', 'a', source=Source())
        self.assertEqual(['a', 'b'], [agent.host for agent in made.agents])
        event = helpers.event()
        self._deliver('a', event)
        self._wait_for_acks(event)
        self.assertEqual(events.Verdict.HANDLED, self.resolver.acks.verdicts()[event.id])
        # An event for the second host of the server is not a repeated event.
        self._deliver('b', event)
        helpers.wait_until(lambda: len(self.resolver.acks.results()) == 2)
        self.assertEqual(events.Verdict.NOT_HERE, self.resolver.acks.results()[1].verdict)
        helpers.wait_until(lambda: len(self.resolver.reports) >= 2)
        self.assertEqual([('a', [helpers.SERVER]), ('b', [])], sorted(self.resolver.reports))

    def test_reload_replaces_handlers_and_keeps_them_after_an_error(self):
        made = self._fleet('a', 'b')
        self.resolver.conf.set_override('handlers', ['exec'], 'agent')
        made.reload(self.resolver.conf)
        self.assertIn('Configuration not reloaded: [exec] command', self.logs.output)
        self.resolver.conf.set_override('command', 'sh -c "exit 3"', 'exec')
        made.reload(self.resolver.conf)
        event = helpers.event()
        self._deliver('b', event)
        self._wait_for_acks(event)
        self.assertEqual(events.Verdict.NOT_HERE, self.resolver.acks.verdicts()[event.id])

    def test_many_hosts_share_few_threads(self):
        before = threading.active_count()
        made = self._fleet(*(f'host-{number}' for number in range(30)))
        batch = [helpers.event() for _agent in made.agents]
        for agent, event in zip(made.agents, batch, strict=True):
            self._deliver(agent.host, event)
        self._wait_for_acks(*batch)
        # oslo.messaging has two threads per host: one listens and one receives.
        self.assertLess(threading.active_count() - before, 30 * 2 + 64 + 10)
        made.stop(helpers.PATIENCE)
        self.assertTrue(made.wait(0))

    def test_stop_closes_handlers_and_source(self):
        closed = []

        class Closable(handlers.LogHandler):
            def close(self):
                closed.append('handler')

        class ClosableSource(sources.NoSource):
            def close(self):
                closed.append('source')

        made = self._fleet('a', 'b', handlers=handlers.Handlers([Closable()]), source=ClosableSource())
        made.stop(helpers.PATIENCE)
        self.assertEqual(['source', 'handler'], closed)
