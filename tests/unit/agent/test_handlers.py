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

    def test_handlers_by_name_for_any_name_and_from_the_configuration(self):
        configured, any_, changed = self._handler('c'), self._handler('*'), self._handler('changed')
        table = handlers.Handlers([configured])
        self.assertIs(any_, table.on(handlers.ANY, any_))
        table.on('network-changed', changed)
        self.assertEqual((any_, changed, configured), table.of('network-changed'))
        self.assertEqual((any_, configured), table.of('power-update'))

    def test_changes_apply_to_the_next_event(self):
        """The cached handlers of a name are replaced."""
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

    def test_unknown_names_are_not_cached(self):
        table = handlers.Handlers([self._handler('c')])
        for number in range(3):
            self.assertEqual(1, len(table.of(f'network-{number}')))
        self.assertEqual({}, table._by_name)

    def test_decorator_registers_a_handler(self):
        table = handlers.Handlers()

        @table.on('network-changed')
        def changed(ctxt, event):
            return None

        self.assertEqual((changed,), table.of('network-changed'))

    def test_unknown_event_name_is_refused(self):
        self.assertRaises(ValueError, handlers.Handlers().on, 'network-chnaged', self._handler('x'))
        self.assertRaises(ValueError, handlers.Handlers().on, 'network-chnaged')

    def test_configure_replaces_only_the_configured_handlers(self):
        registered, new = self._handler('r'), self._handler('n')
        table = handlers.Handlers([self._handler('old')])
        table.on('*', registered)
        table.configure([new])
        self.assertEqual((registered, new), table.of('network-changed'))

    def test_close_closes_the_handlers(self):
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

    def test_no_handler_is_handled(self):
        self.assertEqual((HANDLED, None), self._handle())

    def test_handler_that_returns_none_handled_the_event(self):
        self.assertEqual((HANDLED, None), self._handle(lambda ctxt, event: None))

    def test_returned_verdict_is_used(self):
        self.assertEqual((NOT_HERE, None), self._handle(lambda ctxt, event: NOT_HERE))
        self.assertEqual((REFUSED, None), self._handle(lambda ctxt, event: REFUSED))

    def test_raised_verdict_is_used(self):
        self.assertEqual((NOT_HERE, None), self._handle(self._raises(exceptions.NotHere(server_uuid='s'))))
        refused = self._raises(exceptions.Refused(reason='too big'))
        self.assertEqual((REFUSED, 'too big'), self._handle(refused))

    def test_unexpected_exception_is_a_failure(self):
        self.assertEqual((REFUSED, 'ZeroDivisionError'), self._handle(self._raises(ZeroDivisionError())))
        self.assertIn('Traceback', self.logs.output)
        self.assertEqual((REFUSED, 'SystemExit'), self._handle(self._raises(SystemExit(3))))

    def test_invalid_return_value_is_a_failure(self):
        self.assertEqual((REFUSED, 'ValueError'), self._handle(lambda ctxt, event: True))

    def test_first_handler_that_fails_ends_the_sequence(self):
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

    def test_builtin_handlers(self):
        self.conf.set_override('handlers', ['exec', 'log'], 'agent')
        self.conf.set_override('command', 'cat', 'exec')
        first, second = handlers.load(self.conf)
        self.assertIsInstance(first, exec_handler.ExecHandler)
        self.assertIsInstance(second, handlers.LogHandler)

    def test_unknown_handler(self):
        self.conf.set_override('handlers', ['nosuch'], 'agent')
        error = self.assertRaises(exceptions.ConfigurationError, handlers.load, self.conf)
        self.assertEqual("[agent] handlers: unknown value 'nosuch'; use one of: exec, log", str(error))


class TestLogHandler(base.TestCase):
    def test_message_escapes_control_characters(self):
        handlers.LogHandler()(context.for_service(), helpers.event(tag='a\nb'))
        self.assertIn(f"Event network-changed of server {helpers.SERVER}: tag 'a\\nb'", self.logs.output)
