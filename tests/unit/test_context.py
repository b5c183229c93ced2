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

    def test_invalid_members_of_a_message_are_ignored(self):
        long = 'x' * (context.MAX_MEMBER + 1)
        for values in (
            {'user_id': 3, 'project_id': long, 'roles': 'admin', 'is_admin': 'yes', 'other': 'x'},
            {'user_id': 'a\nb', 'project_id': '\u00e9', 'roles': ['a', 3], 'is_admin': 1},
            {'roles': ['a'] * (context.MAX_ROLES + 1), 'user': long, 'project_id': None},
            {'roles': [long], 'is_admin': []},
            [],
            None,
        ):
            ctxt = context.from_wire(values)
            self.assertEqual(
                (None, None, [], False), (ctxt.user_id, ctxt.project_id, ctxt.roles, ctxt.is_admin), values
            )
        ctxt = context.from_wire({'user': 'u', 'roles': ['a'], 'is_admin': True})
        self.assertEqual(('u', ['a'], True), (ctxt.user_id, ctxt.roles, ctxt.is_admin))

    def test_deferred_context_is_made_once_and_stored_for_the_log(self):
        deferred = context.Deferred({'request_id': 'req-1'})
        made = deferred.get()
        context.RequestContext(request_id='req-2')
        self.assertIs(made, deferred.get())
        self.assertEqual('req-1', context.context.get_current().request_id)

    def test_request_id_has_the_form_of_openstack(self):
        self.assertRegex(context.new_request_id(), '^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
