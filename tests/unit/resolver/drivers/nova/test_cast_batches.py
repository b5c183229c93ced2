"""The grouping of events into casts to a host, and their order."""

from external_events_router import context
from external_events_router import events
from external_events_router.resolver.drivers.nova import cast_batches
from tests import base

A, B = (f'{number:08x}-0000-4000-8000-000000000000' for number in (1, 2))
ONE, TWO = (context.RequestContext(request_id=f'req-{name}', overwrite=False) for name in ('one', 'two'))


def event(name, server=A, tag=None, number=0, status='completed'):
    return events.Event(name, server, tag, status, id=f'{name} {server[7]} {tag} {number}')


class PackTest(base.TestCase):
    def pack(self, *sent, of_two=()):
        return cast_batches.group_into_casts(sent, lambda event: TWO if event in of_two else ONE)

    def test_no_events_make_no_cast(self):
        self.assertEqual([], self.pack())

    def test_events_of_a_batch_share_one_cast(self):
        plugged, extended = event('network-vif-plugged', tag='p'), event('volume-extended', B, 'v')
        self.assertEqual([cast_batches.CastBatch(ONE, (plugged, extended), {})], self.pack(plugged, extended))

    def test_events_that_only_wake_a_waiter_go_first_in_the_order_of_the_batch(self):
        names = (
            'power-update',
            'network-vif-unplugged',
            'network-changed',
            'accelerator-request-bound',
            'network-vif-deleted',
            'volume-reimaged',
            'volume-extended',
            'network-vif-plugged',
        )
        (cast_batch,) = self.pack(*map(event, names))
        self.assertEqual(
            [names[place] for place in (1, 3, 5, 7, 0, 2, 4, 6)], [e.name for e in cast_batch.carried]
        )
        self.assertEqual(set(names), set(events.EVENT_TYPES))

    def test_repeated_network_changed_is_sent_once_at_its_last_place(self):
        first, again = event('network-changed', tag='p'), event('network-changed', tag='p', number=1)
        third = event('network-changed', tag='p', number=2, status='failed')
        other_tag, other_server = event('network-changed'), event('network-changed', B, 'p')
        deleted = event('network-vif-deleted', tag='p')
        (cast_batch,) = self.pack(first, other_tag, again, deleted, other_server, third)
        self.assertEqual((other_tag, deleted, other_server, third), cast_batch.carried)
        self.assertEqual((third.id, first.id, again.id), cast_batch.ids(third))
        self.assertEqual((deleted.id,), cast_batch.ids(deleted))

    def test_other_repeated_events_are_sent_each_time(self):
        sent = [event('network-vif-plugged', tag='p', number=number) for number in range(2)]
        (cast_batch,) = self.pack(*sent)
        self.assertEqual(tuple(sent), cast_batch.carried)

    def test_event_with_an_action_has_the_id_of_its_own_request(self):
        changed, extended = event('network-changed'), event('volume-extended', tag='v')
        power, plugged = event('power-update', B, 'POWER_ON'), event('network-vif-plugged')
        packed = self.pack(changed, extended, power, plugged, of_two=(extended, plugged))
        self.assertEqual(
            [
                cast_batches.CastBatch(ONE, (plugged, changed, power), {}),
                cast_batches.CastBatch(TWO, (extended,), {}),
            ],
            packed,
        )

    def test_no_cast_is_empty(self):
        extended = event('volume-extended', tag='v')
        self.assertEqual(
            [cast_batches.CastBatch(TWO, (extended,), {})], self.pack(extended, of_two=(extended,))
        )
