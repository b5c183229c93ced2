"""The expected answer to an event, beside a running router over ``fake://``."""

import threading

import sqlalchemy

from external_events_router import events
from external_events_router import exceptions
from external_events_router.journal import simulate
from external_events_router.operations import simulate as command
from external_events_router.resolver import rpcapi
from tests import base
from tests.functional import fixtures

PLACED, MIGRATING, ON_NO_HOST, UNKNOWN = (
    f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 5)
)
#: How statements begin that change nothing.
READS = ('SELECT', 'BEGIN', 'ROLLBACK', 'PRAGMA')

HOSTS_OF = {PLACED: ['host-a'], MIGRATING: ['host-a', 'host-b'], ON_NO_HOST: []}


class SimulateTest(base.TestCase):
    def start(self, **overrides):
        self.router = self.useFixture(
            fixtures.Router(HOSTS_OF, **{'delivery__ack_timeout': 0.4, **overrides})
        )

    def collect(self, server):
        api = rpcapi.OperatorAPI.from_conf(self.router.conf, self.router.transport)
        return command.collect(
            self.router.conf,
            self.router.database,
            server,
            breakers=lambda hosts: api.breakers(hosts, timeout=fixtures.PATIENCE),
        )

    def statements(self):
        """The statements that this thread sends from now on, to any database."""
        sent, thread = [], threading.get_ident()

        def keep(_connection, _cursor, statement, *_rest):
            if threading.get_ident() == thread:
                sent.append(statement)

        sqlalchemy.event.listen(sqlalchemy.Engine, 'before_cursor_execute', keep)
        self.addCleanup(sqlalchemy.event.remove, sqlalchemy.Engine, 'before_cursor_execute', keep)
        return sent

    def predict(self, server, name='network-changed'):
        predicted = simulate.predict(events.Event(name, server), self.collect(server))
        return predicted.code, predicted.reason

    def test_prediction_is_the_answer(self):
        self.start(hosts=('host-a',))
        for server in (PLACED, ON_NO_HOST, UNKNOWN):
            code, _ = self.predict(server)
            answer = self.router.post(fixtures.event(server), fixtures.event(PLACED, tag='other'))
            self.assertEqual([code, 200], answer.codes)
        self.assertEqual([400], self.router.post(fixtures.event(PLACED, 'volume-extended')).codes)
        self.assertEqual((400, 'bad_tag'), self.predict(PLACED, 'volume-extended'))

    def test_held_events_and_the_circuit_breaker_of_a_host(self):
        self.start(hosts=('host-a',))
        # The first event is held because host-b is silent; it opens the circuit breaker.
        self.router.post(fixtures.event(MIGRATING))
        facts = self.collect(MIGRATING)
        self.assertEqual(1, facts.held)
        self.assertEqual(
            [('host-a', 'closed', False), ('host-b', 'open', True)],
            [(host.name, host.breaker, host.behind) for host in facts.hosts],
        )
        self.assertEqual((200, 'held_behind'), self.predict(MIGRATING))

    def test_simulation_sends_and_writes_nothing(self):
        self.start()
        self.router.post(fixtures.event(MIGRATING))
        handled = len(self.router.handled.events)
        sent = self.statements()
        self.predict(MIGRATING)
        self.assertLess(3, len(sent))
        self.assertEqual([], [statement for statement in sent if not statement.startswith(READS)])
        self.assertEqual((handled, []), (len(self.router.handled.events), self.router.held()))

    def test_no_resolver_answers(self):
        self.start()

        def ask(hosts):
            raise exceptions.ResolverUnavailable(reason='no answer in time')

        facts = command.collect(self.router.conf, self.router.database, PLACED, breakers=ask)
        self.assertIn('no answer in time', facts.breakers_problem)
        self.assertEqual(['unknown'], [host.breaker for host in facts.hosts])
