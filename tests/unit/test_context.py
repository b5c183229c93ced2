from external_events_router import context
from tests import base


class ContextTest(base.TestCase):
    def test_context_in_a_message_is_restored(self):
        for given in (
            {},
            {'user_id': 'u', 'project_id': 'p', 'roles': ['service', 'admin'], 'is_admin': True},
            {'global_request_id': 'req-theirs'},
        ):
            ctxt = context.RequestContext(**given)
            wire = context.on_the_wire(ctxt)
            self.assertEqual(ctxt.to_dict(), context.RequestContext.from_dict(wire).to_dict())
            # A resolver of another version may send it, too.
            self.assertEqual(
                ctxt.to_dict(), context.RequestContext.from_dict({**wire, 'show_deleted': False}).to_dict()
            )

    def test_request_id_has_the_form_of_openstack(self):
        self.assertRegex(context.new_request_id(), '^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
