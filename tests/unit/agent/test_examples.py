"""The examples in the documentation behave as the documentation describes."""

import importlib.util
import pathlib

from external_events_router import agent
from external_events_router import events
from tests import base
from tests import casting
from tests.unit.agent import helpers

FOLDER = pathlib.Path(__file__).parents[3] / 'doc' / 'source' / 'user' / 'examples'


def load(name):
    spec = importlib.util.spec_from_file_location(f'example_{name}', FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestExamples(base.TestCase):
    def setUp(self):
        super().setUp()
        self.resolver = self.useFixture(helpers.Resolver())

    def _start(self, compute):
        compute.start()
        self.addCleanup(compute.stop, helpers.PATIENCE)
        return compute

    def _verdict(self, event):
        casting.deliver(self.resolver.transport, 'host-a', self.resolver.delivery(event))
        helpers.wait_until(lambda: event.id in self.resolver.acks.verdicts())
        return self.resolver.acks.verdicts()[event.id]

    def test_handler_example(self):
        example = load('handler')
        self._start(example.make_agent(self.resolver.transport, 'host-a'))
        ((server, volumes),) = example.VOLUMES.items()
        verdicts = [
            self._verdict(event)
            for event in (
                events.Event('volume-extended', server, *volumes),
                events.Event('volume-extended', server, 'another'),
                events.Event('volume-extended', helpers.OTHER_SERVER, *volumes),
                events.Event('power-update', server, 'POWER_ON'),
            )
        ]
        verdict = agent.Verdict
        self.assertEqual([verdict.HANDLED, verdict.REFUSED, verdict.NOT_HERE, verdict.HANDLED], verdicts)

    def _plug_ports(self, status, **kwargs):
        example = load('waiter')
        compute = self._start(agent.Agent(self.resolver.transport, 'host-a'))

        def plug(port):
            plugged = helpers.event('network-vif-plugged', tag=port, status=status)
            casting.deliver(self.resolver.transport, 'host-a', self.resolver.delivery(plugged))

        return example, lambda: example.plug_ports(compute, helpers.SERVER, ['p1', 'p2'], plug, **kwargs)

    def test_waiter_example(self):
        _example, plug_ports = self._plug_ports('completed')
        self.assertEqual({('network-vif-plugged', 'p1'), ('network-vif-plugged', 'p2')}, plug_ports().keys())

    def test_waiter_example_reports_a_failure(self):
        example, plug_ports = self._plug_ports('failed')
        error = self.assertRaises(example.PortsNotPlugged, plug_ports)
        self.assertIn('failed to plug', str(error))

    def test_waiter_example_ends_at_its_timeout(self):
        example = load('waiter')
        compute = self._start(agent.Agent(self.resolver.transport, 'host-a'))
        error = self.assertRaises(
            example.PortsNotPlugged,
            lambda: example.plug_ports(compute, helpers.SERVER, ['p1'], lambda port: None, timeout=0.01),
        )
        self.assertIn("with tag 'p1'", str(error))

    def test_source_example(self):
        running = load('source').RunningServers()
        self._start(agent.Agent(self.resolver.transport, 'host-a', source=running))
        self.assertEqual(agent.Verdict.NOT_HERE, self._verdict(helpers.event()))
        running.started(helpers.SERVER)
        self.assertEqual(agent.Verdict.HANDLED, self._verdict(helpers.event()))
        helpers.wait_until(lambda: ('host-a', [helpers.SERVER]) in self.resolver.reports)
        running.stopped(helpers.SERVER)
        helpers.wait_until(lambda: self.resolver.reports[-1] == ('host-a', []))
