"""The admin API: each operation as a request and its answer, on a running router over ``fake://``."""

import threading

from falcon import testing

from external_events_router.admin import routes
from tests import base
from tests.functional import admin
from tests.functional import fixtures

A, B, UNKNOWN = (f'0000000{letter}-0000-4000-8000-000000000000' for letter in 'abe')
PORT = 'port-1'

#: Text that must reach a client only as data: a bidirectional override, an escape sequence, markup.
HOSTILE = '\u202egnp.exe\x1b[31m<script>"\''


class AdminTestCase(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def setUp(self):
        super().setUp()
        self.router = self.useFixture(
            fixtures.Router({A: ['host-a'], B: ['host-b']}, hosts=['host-a'], delivery__ack_timeout=3.0)
        )
        self.admin = self.useFixture(admin.Admin(self.router))

    def post(self, server=A, name='network-vif-plugged', tag=PORT):
        return self.router.post(fixtures.event(server, name, tag=tag))

    def events(self, number, **query):
        """Wait until the list has so many events."""
        self.router.wait_until(lambda: len(self.admin.get('/events', **query)['events']) >= number)
        return self.admin.get('/events', **query)['events']

    def hold(self, number=1):
        """Have events of the server B held: its host has no agent."""
        for position in range(number):
            self.assertEqual([200], self.post(B, tag=f'port-{position}').codes)
        self.router.wait_until(lambda: len(self.router.held()) == number)
        return [record.event.id for record in self.router.held()]

    def actions(self):
        """The recorded actions, the oldest first: action, user, filter, count, problem."""
        found = self.admin.get('/actions')['actions'][::-1]
        members = ('action', 'user', 'filter', 'count', 'problem')
        return [tuple(action[member] for member in members) for action in found]

    def fault(self, result):
        """The status of an error, and its message."""
        (fault,) = result.json.values()
        self.assertEqual(result.status_code, fault['code'])
        return fault['code'], fault['message']


class EventsTest(AdminTestCase):
    def test_list_in_pages_with_filters(self):
        for number in range(3):
            self.post(tag=f'port-{number}')
        self.post(UNKNOWN)
        every = self.events(4)
        self.assertEqual([UNKNOWN, A, A, A], [event['server'] for event in every])
        found, pages = self.admin.pages('/events', 'events', limit=2, server=A)
        self.assertEqual((['port-2', 'port-1', 'port-0'], 2), ([event['tag'] for event in found], pages))
        found, _ = self.admin.pages('/events', 'events', limit=1, state='failed')
        self.assertEqual([404], [event['code'] for event in found])
        oldest = self.admin.get('/events', oldest_first='true', limit=1, port='port-1', code='200')
        self.assertEqual(['port-1'], [event['tag'] for event in oldest['events']])
        self.assertEqual([], self.admin.get('/events', until='1h')['events'])

    def test_show(self):
        self.post()
        (event,) = self.events(1)
        shown = self.admin.get(f'/events/{event["event"]}')
        self.assertEqual([event], shown['posted'])
        self.assertIn('acknowledged', [entry['kind'] for entry in shown['history']])
        self.assertEqual(404, self.fault(self.admin.request('GET', '/events/nonsense'))[0])

    def test_follow_returns_each_new_event_once(self):
        self.post()
        self.events(1)
        first = self.admin.get('/events/follow')
        self.assertEqual([], first['events'])
        answers = []
        link = first['links'][0]['href']
        waiting = threading.Thread(target=lambda: answers.append(self.admin.get(link)))
        waiting.start()
        for number in range(3):
            self.post(tag=f'new-{number}')
        waiting.join(fixtures.PATIENCE)
        tags = [event['tag'] for event in answers[0]['events']]
        while 'new-2' not in tags:
            answers.append(self.admin.get(answers[-1]['links'][0]['href']))
            tags += [event['tag'] for event in answers[-1]['events']]
        # NOTE: the first call may begin a few seconds before it.
        self.assertEqual(['new-0', 'new-1', 'new-2'], [tag for tag in tags if tag != PORT])

    def test_follow_has_a_limited_number_of_places(self):
        for _ in range(self.router.conf.admin.threads // 2):
            self.admin.services.followers.acquire()
        result = self.admin.request('GET', '/events/follow', wait=0)
        self.assertEqual((503, '5'), (result.status_code, result.headers['Retry-After']))

    def test_explain_and_timeline(self):
        self.post()
        self.events(1)
        explained = self.admin.get(f'/servers/{A}/explain', port=PORT)
        timeline = self.admin.get(f'/servers/{A}/timeline')
        self.assertEqual('delivered', explained['verdict'])
        self.assertTrue(explained['next_step']['text'])
        kinds = [
            [entry['kind'] for entry in document['timeline'] if entry['kind'] != 'gap']
            for document in (explained, timeline)
        ]
        self.assertEqual(kinds[0], kinds[1])
        self.assertIn('acknowledged', kinds[0])
        self.assertNotIn('verdict', timeline)

    def test_simulate(self):
        answer = self.admin.request('POST', '/simulate', {'server': UNKNOWN, 'name': 'network-changed'})
        self.assertEqual((200, 404), (answer.status_code, answer.json['code']))

    def test_hostile_text_is_data(self):
        self.post(B, tag=HOSTILE)
        self.router.wait_until(self.router.held)
        self.events(1)
        for path in ('/held', '/events', f'/servers/{B}/explain'):
            result = self.admin.request('GET', path)
            self.assertTrue(result.text.isascii() and result.text.isprintable(), result.text)
            self.assertEqual('application/json', result.headers['Content-Type'])
            self.assertEqual('nosniff', result.headers['X-Content-Type-Options'])
            policy = result.headers['Content-Security-Policy']
            self.assertEqual("default-src 'none'; frame-ancestors 'none'", policy)
        self.assertEqual(HOSTILE, self.admin.get('/held')['held'][0]['tag'])


class HeldTest(AdminTestCase):
    def test_list_in_pages(self):
        ids = self.hold(3)
        found, pages = self.admin.pages('/held', 'held', limit=1)
        self.assertEqual((ids, 3), ([event['event'] for event in found], pages))
        self.assertEqual([], self.admin.get('/held', host='host-a')['held'])
        self.assertEqual([], self.admin.get('/held', state='expired')['held'])

    def test_drop_of_one_event_in_the_version_that_was_read(self):
        (event,) = self.hold()
        read = self.admin.request('GET', f'/held/{event}')
        wrong = self.admin.request('DELETE', f'/held/{event}', headers={'If-Match': '"0"'})
        self.assertEqual(412, self.fault(wrong)[0])
        self.assertEqual(1, len(self.router.held()))
        # NOTE: the redelivery changes the number of attempts, and so the version.
        self.router.wait_until(
            lambda: (
                self.admin.request(
                    'DELETE',
                    f'/held/{event}',
                    headers={'If-Match': self.admin.request('GET', f'/held/{event}').headers['ETag']},
                ).status_code
                == 200
            )
        )
        self.assertEqual([], self.router.held())
        self.assertRegex(read.headers['ETag'], '^"[0-9a-f]{32}"$')
        self.assertEqual(404, self.fault(self.admin.request('DELETE', f'/held/{event}'))[0])
        dropped = [action for action in self.actions() if action[4] is None]
        self.assertEqual([('held:drop', 'alice', {'event': event}, 1, None)], dropped)

    def test_retry_of_one_event(self):
        (event,) = self.hold()
        result = self.admin.request('POST', f'/held/{event}/retry', {})
        self.assertEqual((200, 1), (result.status_code, result.json['servers_rescheduled']))

    def test_drop_by_a_filter_needs_a_preview(self):
        self.hold(2)
        chosen = {'host': 'host-b'}
        preview = self.admin.request('POST', '/held/drop/preview', chosen).json
        self.assertEqual(
            (2, [{'state': 'held', 'name': 'network-vif-plugged', 'count': 2}]),
            (preview['count'], preview['kinds']),
        )
        self.post(B, tag='later')
        self.router.wait_until(lambda: len(self.router.held()) == 3)
        confirmed = {'filter': chosen, 'confirmation': preview['confirmation']}
        for wrong in (
            {'filter': {}, 'confirmation': preview['confirmation']},
            {'filter': chosen, 'confirmation': 'A' + preview['confirmation'][1:-1] + 'A'},
            {'filter': chosen, 'confirmation': '\u00e9'},
        ):
            self.assertEqual(400, self.fault(self.admin.request('POST', '/held/drop', wrong))[0])
        self.assertEqual(400, self.fault(self.admin.request('POST', '/held/retry', confirmed))[0])
        self.admin.be('admin', user='bob')
        self.assertEqual(400, self.fault(self.admin.request('POST', '/held/drop', confirmed))[0])
        self.admin.be('admin')
        self.assertEqual(3, len(self.router.held()))
        dropped = self.admin.request('POST', '/held/drop', confirmed)
        self.assertEqual((200, 2), (dropped.status_code, dropped.json['dropped']), dropped.text)
        # An event that arrived after the preview stays.
        self.assertEqual(['later'], [record.event.tag for record in self.router.held()])
        self.assertIn(('held:drop', 'alice', chosen, 2, None), self.actions())

    def test_confirmation_expires(self):
        self.hold()
        preview = self.admin.request('POST', '/held/drop/preview', {}).json
        shared = self.admin.services
        now = shared.rows.now() + self.router.conf.admin.confirmation_lifetime + 1
        shared.rows.now = lambda: now
        body = {'filter': {}, 'confirmation': preview['confirmation']}
        status, message = self.fault(self.admin.request('POST', '/held/drop', body))
        self.assertEqual(400, status)
        self.assertIn('has expired', message)

    def test_retry_by_a_filter(self):
        self.hold(2)
        preview = self.admin.request('POST', '/held/retry/preview', {'server': B}).json
        body = {'filter': {'server': B}, 'confirmation': preview['confirmation']}
        retried = self.admin.request('POST', '/held/retry', body)
        self.assertEqual((200, 1), (retried.status_code, retried.json['servers_rescheduled']))


class HostsTest(AdminTestCase):
    def test_list_in_pages_and_show(self):
        found, pages = self.admin.pages('/hosts', 'hosts', limit=1)
        self.assertEqual((['host-a', 'host-b'], 2), ([host['host'] for host in found], pages))
        problem, _ = self.admin.pages('/hosts', 'hosts', limit=1, problem='true')
        self.assertIn('host-b', [host['host'] for host in problem])
        self.assertEqual(1, self.admin.get('/hosts/host-a')['servers'])
        self.assertEqual(404, self.fault(self.admin.request('GET', '/hosts/unknown'))[0])

    def test_replay(self):
        self.post()
        self.events(1)
        counted = self.admin.request('POST', '/hosts/host-a/replay', {'since': '1h', 'dry_run': True})
        self.assertEqual((200, 1), (counted.status_code, counted.json['due']), counted.text)
        self.assertEqual([], self.actions())
        sent = self.admin.request('POST', '/hosts/host-a/replay', {'since': '1h'})
        self.assertEqual((1, 0), (sent.json['sent'], sent.json['not_sent']))
        ((action, user, chosen, count, problem),) = self.actions()
        self.assertEqual(('replay', 'alice', 1, None), (action, user, count, problem))
        self.assertEqual('host-a', chosen['host'])

    def test_host_map_with_concurrent_changes(self):
        read = self.admin.request('GET', f'/host-map/{A}')
        tag = {'If-Match': read.headers['ETag']}
        assigned = self.admin.request('PUT', f'/host-map/{A}/hosts/host-b', headers=tag)
        self.assertEqual((200, ['host-a', 'host-b']), (assigned.status_code, assigned.json['hosts']))
        late = self.admin.request('DELETE', f'/host-map/{A}/hosts/host-a', headers=tag)
        self.assertEqual(412, self.fault(late)[0])
        tag = {'If-Match': assigned.headers['ETag']}
        removed = self.admin.request('DELETE', f'/host-map/{A}/hosts/host-a', headers=tag)
        self.assertEqual(['host-b'], removed.json['hosts'])
        self.assertEqual(204, self.admin.request('DELETE', f'/host-map/{A}').status_code)
        self.assertEqual(404, self.fault(self.admin.request('GET', f'/host-map/{A}'))[0])
        self.assertEqual(412, self.fault(self.admin.request('DELETE', f'/host-map/{A}', headers=tag))[0])
        self.assertEqual(
            [
                'host-map:assign',
                'host-map:unassign',
                'host-map:unassign',
                'host-map:forget',
                'host-map:forget',
            ],
            [action[0] for action in self.actions()],
        )

    def test_summary(self):
        self.hold()
        self.router.wait_until(lambda: self.admin.get('/summary')['workers'] == 1)
        summary = self.admin.get('/summary')
        self.assertEqual(1, summary['held'])
        self.assertIn(summary['state'], ('ok', 'problem'))


class RequestsTest(AdminTestCase):
    def test_invalid_parameters(self):
        for query, message in (
            ('limit=0', 'limit'),
            ('limit=1001', 'from 1 to 1000'),
            ('limit=1&limit=2', 'given twice'),
            ('unknown=1', 'the parameters are'),
            ('since=yesterday', 'since'),
            ('since=%00', 'control characters'),
            ('server=1', 'not a uuid'),
            ('state=lost', 'not one of'),
            ('marker=1', 'marker'),
            ('port=%FF', 'UTF-8'),
            ('&'.join(f'code={number}' for number in range(60)), 'more than 50'),
        ):
            result = self.admin.request('GET', f'/events?{query}')
            status, text = self.fault(result)
            self.assertEqual(400, status, query)
            self.assertIn(message, text)

    def test_invalid_bodies(self):
        for body in ({}, {'since': '1h', 'more': 1}, {'since': 1}, [], {'since': '1h', 'name': ['x']}):
            result = self.admin.request('POST', '/hosts/host-a/replay', body)
            self.assertEqual(400, self.fault(result)[0], body)
        text = self.admin.request(
            'POST',
            '/simulate',
            {'server': A, 'name': 'network-changed'},
            headers={'Content-Type': 'text/plain'},
        )
        self.assertEqual(415, self.fault(text)[0])

    def test_paths_and_methods_that_do_not_exist(self):
        self.assertEqual(404, self.fault(self.admin.request('GET', '/nothing'))[0])
        result = self.admin.request('PATCH', '/events')
        self.assertEqual((405, 'GET, OPTIONS'), (self.fault(result)[0], result.headers['Allow']))

    def test_documents_need_no_token(self):
        self.admin.identity = {}
        for path in ('/admin/v1/openapi.json', '/', '/healthcheck', '/readiness'):
            self.assertEqual(200, testing.simulate_get(self.admin.app, path).status_code, path)


class PolicyTest(AdminTestCase):
    def requests(self):
        """One request for each operation: the route, method and path."""
        names = {'event': 'some-event', 'server': A, 'host': 'host-a'}
        for route in routes.ROUTES:
            yield (
                route,
                self.admin.request(route.method, route.path.format(**names), {} if route.body else None),
            )

    def test_reader_reads_and_does_not_act(self):
        self.admin.be('reader')
        for route, result in self.requests():
            reads = route.method == 'GET' or route.rule == 'simulate'
            self.assertEqual(reads, result.status_code != 403, (route.method, route.path, result.text))

    def test_reader_of_another_project_and_others_are_refused(self):
        for roles, project in (
            (['reader'], admin.CUSTOMER),
            (['member'], admin.OPERATORS),
            ([], admin.OPERATORS),
        ):
            self.admin.be(*roles, project=project)
            for route, result in self.requests():
                self.assertEqual(403, result.status_code, (roles, route.path))
                self.assertIn(f'external-events:{route.rule}', result.text)

    def test_admin_acts(self):
        for route, result in self.requests():
            self.assertNotEqual(403, result.status_code, (route.path, result.text))
