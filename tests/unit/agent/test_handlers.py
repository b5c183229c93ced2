from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import exec_handler
from external_events_router.agent import handlers
from tests import base
from tests.unit.agent import helpers

HANDLED, NOT_HERE, REFUSED = events.Verdict.HANDLED, events.Verdict.NOT_HERE, events.Verdict.REFUSED


class TestHandlers(base.TestCase):
    def setUp(self):
        super().setUp()
        self.called = []

    def _handler(self, name, verdict=None):
        def handle(ctxt, event):
            self.called.append(name)
            return verdict

        return handle

    def test_by_name_any_and_configuration(self):
        configured, any_, changed = self._handler('c'), self._handler('*'), self._handler('changed')
        table = handlers.Handlers([configured])
        self.assertIs(any_, table.on(handlers.ANY, any_))
        table.on('network-changed', changed)
        self.assertEqual((any_, changed, configured), table.of('network-changed'))
        self.assertEqual((any_, configured), table.of('power-update'))

    def test_what_changes_is_seen(self):
        """Though it was asked for before, and what was found is kept."""
        first, second, third = map(self._handler, 'abc')
        table = handlers.Handlers()
        self.assertEqual((), table.of('network-changed'))
        table.on('network-changed', first)
        self.assertEqual((first,), table.of('network-changed'))
        self.assertIs(table.of('network-changed'), table.of('network-changed'))
        table.on('*', second)
        self.assertEqual((first, second), table.of('network-changed'))
        table.configure([third])
        self.assertEqual((first, second, third), table.of('network-changed'))

    def test_names_that_no_event_has_are_not_kept(self):
        table = handlers.Handlers([self._handler('c')])
        for number in range(3):
            self.assertEqual(1, len(table.of(f'network-{number}')))
        self.assertEqual({}, table._by_name)

    def test_decorator(self):
        table = handlers.Handlers()

        @table.on('network-changed')
        def changed(ctxt, event):
            return None

        self.assertEqual((changed,), table.of('network-changed'))

    def test_no_such_event(self):
        self.assertRaises(ValueError, handlers.Handlers().on, 'network-chnaged', self._handler('x'))
        self.assertRaises(ValueError, handlers.Handlers().on, 'network-chnaged')

    def test_configure_replaces_the_configured_alone(self):
        registered, new = self._handler('r'), self._handler('n')
        table = handlers.Handlers([self._handler('old')])
        table.on('*', registered)
        table.configure([new])
        self.assertEqual((registered, new), table.of('network-changed'))

    def test_close(self):
        closed = []

        class Closable(handlers.LogHandler):
            def close(self):
                closed.append(self)

        closable = Closable()
        handlers.Handlers([closable, self._handler('without')]).close()
        self.assertEqual([closable], closed)


class TestHandle(base.TestCase):
    def _handle(self, *chain):
        event = helpers.event()
        result = handlers.handle(chain, context.for_service(), event)
        self.assertEqual(event.id, result.event_id)
        return result.verdict, result.reason

    def _raises(self, error):
        def handle(ctxt, event):
            raise error

        return handle

    def test_nothing(self):
        self.assertEqual((HANDLED, None), self._handle())

    def test_none_is_handled(self):
        self.assertEqual((HANDLED, None), self._handle(lambda ctxt, event: None))

    def test_returned(self):
        self.assertEqual((NOT_HERE, None), self._handle(lambda ctxt, event: NOT_HERE))
        self.assertEqual((REFUSED, None), self._handle(lambda ctxt, event: REFUSED))

    def test_raised(self):
        self.assertEqual((NOT_HERE, None), self._handle(self._raises(exceptions.NotHere(server_uuid='s'))))
        refused = self._raises(exceptions.Refused(reason='too big'))
        self.assertEqual((REFUSED, 'too big'), self._handle(refused))

    def test_surprise(self):
        self.assertEqual((REFUSED, 'ZeroDivisionError'), self._handle(self._raises(ZeroDivisionError())))
        self.assertIn('Traceback', self.logs.output)
        self.assertEqual((REFUSED, 'SystemExit'), self._handle(self._raises(SystemExit(3))))

    def test_nonsense_returned(self):
        self.assertEqual((REFUSED, 'ValueError'), self._handle(lambda ctxt, event: True))

    def test_up_to_the_first_that_does_not_handle_it(self):
        called = []
        chain = [
            lambda ctxt, event: called.append(1),
            lambda ctxt, event: NOT_HERE,
            lambda ctxt, event: called.append(3),
        ]
        self.assertEqual((NOT_HERE, None), self._handle(*chain))
        self.assertEqual([1], called)


class TestLoad(base.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = helpers.make_conf(self)

    def test_builtin(self):
        self.conf.set_override('handlers', ['exec', 'log'], 'agent')
        self.conf.set_override('command', 'cat', 'exec')
        first, second = handlers.load(self.conf)
        self.assertIsInstance(first, exec_handler.ExecHandler)
        self.assertIsInstance(second, handlers.LogHandler)

    def test_unknown(self):
        self.conf.set_override('handlers', ['nosuch'], 'agent')
        error = self.assertRaises(exceptions.ConfigurationError, handlers.load, self.conf)
        self.assertEqual("[agent] handlers: unknown value 'nosuch'; use one of: exec, log", str(error))


class TestLogHandler(base.TestCase):
    def test_line(self):
        handlers.LogHandler()(context.for_service(), helpers.event(tag='a\nb'))
        self.assertIn(f"Event network-changed of server {helpers.SERVER}: tag 'a\\nb'", self.logs.output)
