"""The request context as nova-compute expects it."""

from external_events_router import context
from external_events_router.resolver.drivers.nova import contexts
from tests import base
from tests.unit.resolver.drivers.nova import test_objects

PREFIX = '_context_'

#: Members that differ from request to request, or that are omitted on purpose.
ITS_OWN = {'timestamp', 'remote_address'}


class ContextTest(base.TestCase):
    def test_context_is_as_recorded(self):
        (message,) = test_objects.recorded('one')
        theirs = {key.removeprefix(PREFIX): message[key] for key in message if key.startswith(PREFIX)}
        ctxt = context.RequestContext(
            user_id=theirs['user_id'],
            project_id=theirs['project_id'],
            user_domain_id='default',
            project_domain_id='default',
            user_name='neutron',
            project_name='service',
            request_id=theirs['request_id'],
            roles=theirs['roles'],
            auth_token='a secret',
            overwrite=False,
        )
        mine = contexts.on_the_wire(ctxt)
        self.assertEqual(theirs.keys(), mine.keys())
        for key in theirs.keys() - ITS_OWN:
            self.assertEqual(theirs[key], mine[key], key)
        self.assertRegex(mine['timestamp'], r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$')

    def test_context_without_a_user(self):
        mine = contexts.on_the_wire(context.for_service())
        self.assertIs(True, mine['is_admin'])
        self.assertIsNone(mine['user_id'])
