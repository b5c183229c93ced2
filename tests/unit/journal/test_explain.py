"""The answer about a server, as data."""

import json

from external_events_router.journal import explain
from external_events_router.journal import next_steps
from tests import base
from tests.unit.journal import histories as h


class ExplainTest(base.TestCase):
    def explain(self, history):
        explained = explain.explain(history, next_steps.Site())
        document = explain.document(explained)
        self.assertEqual(document, json.loads(json.dumps(document)))
        return document

    def test_times_are_relative_to_the_start_of_the_wait(self):
        document = self.explain(h.history(h.event(5, handling=h.HANDLED)))
        self.assertEqual('start of the wait', document['relative_to'])
        self.assertEqual([0.0, 2.0, 2.012, 2.02], [entry['relative'] for entry in document['timeline']])
        self.assertEqual('2026-09-21T14:13:25.000Z', document['timeline'][1]['time'])
        self.assertEqual(
            ('delivered', 'event-1', True, 0),
            tuple(document[key] for key in ('verdict', 'event', 'complete', 'exit_status')),
        )

    def test_times_are_relative_to_the_first_entry_without_a_wait(self):
        document = self.explain(h.history(h.event(5)))
        self.assertEqual('first entry', document['relative_to'])
        self.assertEqual(0.0, document['timeline'][0]['relative'])

    def test_nothing_recorded(self):
        document = self.explain(h.history(gaps=(h.gap('killed'),)))
        self.assertEqual(
            ('incomplete_record', None, False, 5),
            tuple(document[key] for key in ('verdict', 'event', 'complete', 'exit_status')),
        )
        self.assertEqual(['gap'], [entry['kind'] for entry in document['timeline']])
        self.assertEqual([], self.explain(h.history())['timeline'])
