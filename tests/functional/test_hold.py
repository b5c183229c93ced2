"""Events that were answered 200 arrive, over ``fake://``: holds, their order and their ends."""

import threading

from external_events_router import events
from tests import base
from tests.functional import fixtures

PLACED, MIGRATING, ON_NO_HOST, ON_B = (f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 5))
HOSTS_OF = {PLACED: ['host-a'], MIGRATING: ['host-a', 'host-b'], ON_NO_HOST: [], ON_B: ['host-b']}


class HoldTest(base.TestCase):
    def start(self, **overrides):
        self.router = self.useFixture(
            fixtures.Router(HOSTS_OF, **{'delivery__ack_timeout': 0.4, **overrides})
        )
        return self.router

    def tags(self):
        return [event.tag for event in self.router.handled.events]

    def test_later_events_of_the_server_wait_behind_and_keep_their_order(self):
        router = self.start()
        router.fleet.stop(fixtures.PATIENCE)
        for number in range(6):
            self.assertEqual([200], router.post(fixtures.event(PLACED, tag=str(number))).codes)
        self.assertEqual([str(number) for number in range(6)], [held.event.tag for held in router.held()])
        router.start_agents()
        router.post(fixtures.event(PLACED, tag='6'))
        router.wait_until(lambda: not router.held())
        router.post(fixtures.event(PLACED, tag='7'))
        self.assertEqual([str(number) for number in range(8)], self.tags())

    def test_other_servers_do_not_wait(self):
        router = self.start(hosts=('host-b',))
        router.post(fixtures.event(PLACED))
        self.assertEqual([200], router.post(fixtures.event(ON_B)).codes)
        self.assertEqual([ON_B], [event.server_uuid for event in router.handled.events])

    def test_silent_host_is_waited_for_once(self):
        router = self.start(hosts=('host-b',), delivery__ack_timeout=2.0)
        router.post(fixtures.event(PLACED))
        answered = threading.Event()

        def post():
            router.post(fixtures.event(PLACED), fixtures.event(ON_B))
            answered.set()

        threading.Thread(target=post, daemon=True).start()
        self.assertTrue(answered.wait(1.9))
        self.assertEqual(2, len(router.held()))

    def test_server_that_moved_is_served_on_its_new_host(self):
        router = self.start(hosts=('host-b',))
        router.post(fixtures.event(PLACED))
        self.assertEqual(1, len(router.held()))
        router.place(PLACED, 'host-b')
        router.wait_until(lambda: not router.held())
        self.assertEqual([PLACED], [event.server_uuid for event in router.handled.events])

    def test_held_event_is_sent_only_to_the_host_that_did_not_acknowledge(self):
        # NOTE: time for host-a to acknowledge on a busy machine.
        router = self.start(hosts=('host-a',), delivery__ack_timeout=3.0)
        router.post(fixtures.event(MIGRATING))
        self.assertEqual([('host-b',)], [held.hosts for held in router.held()])
        router.place(MIGRATING, 'host-a')
        router.wait_until(lambda: not router.held())
        self.assertEqual(1, len(router.handled.events))

    def test_responding_host_of_two_gets_each_event_at_once(self):
        # NOTE: far more than a delivery takes. The first batch waits for all of it, until the breaker opens.
        router = self.start(hosts=('host-a',), delivery__ack_timeout=10.0)
        tags = [str(number) for number in range(6)]
        for tag in tags:
            self.assertEqual([200], router.post(fixtures.event(MIGRATING, tag=tag)).codes)
            # The event has arrived when its sender receives the answer.
            self.assertEqual(tag, self.tags()[-1])
        self.assertEqual(tags, self.tags())
        self.assertEqual([('host-b',)] * 6, [held.hosts for held in router.held()])
        router.fleet.stop(fixtures.PATIENCE)
        self.router.handled.events.clear()
        router._hosts = ('host-b',)
        router.start_agents()
        router.wait_until(lambda: not router.held())
        self.assertEqual(tags, self.tags())

    def test_deletion_of_a_server_ends_its_hold(self):
        router = self.start(hosts=('host-b',))
        router.post(fixtures.event(PLACED))
        router.host_map.forget(PLACED)
        router.wait_until(lambda: router.held('gone'))
        self.assertEqual([], router.held())

    def test_refusal_ends_the_hold_and_is_kept(self):
        router = self.start()
        router.fleet.stop(fixtures.PATIENCE)
        router.post(fixtures.event(PLACED))
        router.handled.actions[PLACED] = fixtures.refused
        router.start_agents()
        router.wait_until(lambda: router.held('refused'))
        self.assertEqual([], router.held())

    def test_expired_event_is_dropped_kept_for_inspection_and_logged_with_its_request(self):
        router = self.start(hosts=('host-b',), delivery__event_ttl=1.0)
        request_id = 'req-6b0f1f4e-9d53-4f5c-8a55-0d6f0d5f4a11'
        router.post(fixtures.event(PLACED, tag='port'), request_id=request_id)
        router.wait_until(lambda: router.held('expired'))
        self.assertEqual([], router.held())
        (record,) = router.held('expired')
        self.assertEqual(
            (PLACED, 'port', request_id),
            (record.event.server_uuid, record.event.tag, record.request_id),
        )
        warnings = [line for line in self.logs.output.splitlines() if ' WARNING ' in line]
        self.assertTrue(any(request_id in line and 'expired' in line for line in warnings), warnings)

    def test_each_name_has_a_separate_ttl(self):
        router = self.start(hosts=(), delivery__event_ttls={'network-vif-plugged': '3000'})
        router.post(fixtures.event(PLACED), fixtures.event(PLACED, 'network-vif-plugged', tag='port'))
        lifetimes = [round(held.expires_at - held.held_at) for held in router.held()]
        self.assertEqual([300, 3000], lifetimes)

    def test_unassigned_server_is_served_once_it_has_a_host(self):
        router = self.start(delivery__hold_unassigned=60.0)
        self.assertEqual([200], router.post(fixtures.event(ON_NO_HOST)).codes)
        router.place(ON_NO_HOST, 'host-a')
        router.wait_until(lambda: not router.held())
        self.assertEqual([ON_NO_HOST], [event.server_uuid for event in router.handled.events])

    def test_another_worker_takes_over(self):
        router = self.start(hosts=('host-b',))
        router.post(fixtures.event(PLACED))
        router.resolver.stop()
        router.place(PLACED, 'host-b')
        router.start_resolver()
        router.wait_until(lambda: not router.held())
        self.assertEqual(1, len(router.handled.events))

    def test_not_here_is_tried_again_until_the_server_is_on_the_host(self):
        router = self.start()
        router.fleet.stop(fixtures.PATIENCE)
        router.post(fixtures.event(PLACED))
        seen = []

        def arrive(event):
            seen.append(event)
            return events.Verdict.NOT_HERE if len(seen) < 3 else events.Verdict.HANDLED

        router.handled.actions[PLACED] = arrive
        router.start_agents()
        router.wait_until(lambda: not router.held())
        self.assertEqual(3, len(seen))
