"""Three stories in front of Nova: an event before, within and after the wait of a boot that failed.

The actions are rows as Nova writes them, in the schema of its own migrations.
"""

import datetime
import json
import time

import sqlalchemy as sa

from external_events_router.resolver.drivers.nova import tables
from tests import base
from tests import interpreter
from tests.integration import deployment
from tests.nova import cloud
from tests.nova import test_computes

BEFORE, WITHIN, AFTER = (f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 4))
PORT = 'aaaaaaaa-0000-4000-8000-000000000000'
NAME = 'network-vif-plugged'

#: Seconds from the start of an action until the compute host waits.
UNTIL_WAIT = 2.0


def stored(seconds):
    """A time as Nova stores it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)


class StoriesTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        instances = [{'uuid': uuid, 'cell': 'cell1', 'host': 'host1'} for uuid in (BEFORE, WITHIN, AFTER)]
        cls.cloud = cloud.Cloud(cloud.NEWEST, hosts={'host1': 'cell1'}, instances=instances)
        cls.addClassCleanup(cls.cloud.cleanUp)
        cls.cloud.setUp()

    def boot(self, server, start, end):
        """A boot that failed, from and until a time."""
        with self.cloud.database(self.cloud.databases['cell1']) as connection:
            action = connection.execute(
                sa.insert(tables.instance_actions).values(
                    action='create',
                    instance_uuid=server,
                    request_id='req-boot',
                    start_time=stored(start),
                    message='Error',
                    deleted=0,
                )
            ).inserted_primary_key[0]
            connection.execute(
                sa.insert(tables.instance_actions_events).values(
                    action_id=action,
                    event='compute__do_build_and_run_instance',
                    start_time=stored(start + UNTIL_WAIT),
                    finish_time=stored(end),
                    result='Error',
                    host='host1',
                    details='VirtualInterfaceCreateException',
                    deleted=0,
                )
            )

    def explain(self, router, server):
        """The answer, and the exit status, once the event is in the journal."""
        answers = []

        def is_recorded():
            done = interpreter.run(
                deployment.MANAGE,
                '--config-file',
                router.config,
                *('explain', server, '--port', PORT, '-f', 'json'),
                cwd=deployment.ROOT,
                timeout=deployment.PATIENCE,
            )
            self.assertEqual('', done.stderr)
            answers[:] = [json.loads(done.stdout), done.returncode]
            return answers[0]['event'] is not None

        deployment.wait_until(is_recorded, 'the event in the journal')
        answer, status = answers
        self.assertEqual([], answer['warnings'])
        self.assertEqual(answer['exit_status'], status)
        self.assertEqual('start of the wait', answer['relative_to'])
        self.assertIn(
            'failed: compute__do_build_and_run_instance: VirtualInterfaceCreateException',
            [entry['text'] for entry in answer['timeline'] if entry['kind'] == 'action'],
        )
        return answer

    def test_event_before_within_and_after_the_wait_of_a_boot(self):
        compute = self.cloud.compute('host1', waits=[(WITHIN, NAME, PORT)])
        self.useFixture(compute)
        router = self.useFixture(test_computes.Router(self.cloud))
        now = time.time()
        self.boot(WITHIN, now - 10, now + 60)
        self.boot(AFTER, now - 330, now - 20)
        posted = [test_computes.event(server, NAME, PORT) for server in (BEFORE, WITHIN, AFTER)]
        self.assertEqual((200, [200] * 3), router.post(*posted))
        compute.wait_for_messages('woken')
        # The boot of the first server begins after its event.
        begun = time.time() + 2
        deployment.wait_until(lambda: time.time() > begun, 'the time of the boot')
        self.boot(BEFORE, begun - 1, begun + 60)
        before = self.explain(router, BEFORE)
        self.assertEqual(('delivered_without_waiter', 3), (before['verdict'], before['exit_status']))
        self.assertIn('before the action create, which failed, began to wait', before['sentence'])
        within = self.explain(router, WITHIN)
        self.assertIn(within['verdict'], ('delivered', 'handed_to_broker'))
        self.assertEqual(0, within['exit_status'])
        after = self.explain(router, AFTER)
        self.assertEqual(('delivered_late', 3), (after['verdict'], after['exit_status']))
        self.assertIn('after the action create had failed', after['sentence'])
        self.assertEqual('/var/log/nova/nova-compute.log', after['next_step']['log'])
