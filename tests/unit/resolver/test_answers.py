from external_events_router import events
from external_events_router.resolver import answers
from tests import base as tests_base

HANDLED = answers.Answer(events.Verdict.HANDLED)
NOT_HERE = answers.Answer(events.Verdict.NOT_HERE)
REFUSED = answers.Answer(events.Verdict.REFUSED, 'broken')
SILENT = answers.Answer(None, answers.NO_ACK)

EVENT = events.Event('network-changed', '11111111-1111-4111-8111-111111111111')


class OutcomeTest(tests_base.TestCase):
    def outcome(self, **received):
        # Answers to other events and answers of other hosts are ignored.
        others = {('a', 'another'): REFUSED, ('another', EVENT.id): REFUSED}
        by_key = {(host, EVENT.id): answer for host, answer in received.items()}
        return answers.outcome_of(EVENT, tuple(received), {**others, **by_key})

    def test_every_combination_of_the_answers_of_two_hosts(self):
        for first, second, code in (
            (HANDLED, HANDLED, 200),
            (HANDLED, NOT_HERE, 200),
            (HANDLED, SILENT, 503),
            (HANDLED, REFUSED, 500),
            (NOT_HERE, NOT_HERE, 422),
            (NOT_HERE, SILENT, 503),
            (NOT_HERE, REFUSED, 500),
            (SILENT, SILENT, 503),
            (SILENT, REFUSED, 500),
            (REFUSED, REFUSED, 500),
        ):
            self.assertEqual(code, self.outcome(a=first, b=second).code, (first, second))
            self.assertEqual(code, self.outcome(a=second, b=first).code, (second, first))

    def test_reason_names_the_host(self):
        self.assertEqual('b: broken', self.outcome(a=HANDLED, b=REFUSED).reason)
        self.assertEqual('not on a, b', self.outcome(a=NOT_HERE, b=NOT_HERE).reason)


class HandledTest(tests_base.TestCase):
    def test_only_hosts_that_handled_the_event(self):
        received = {('a', EVENT.id): HANDLED, ('b', EVENT.id): SILENT, ('c', EVENT.id): NOT_HERE}
        self.assertEqual({'a'}, answers.hosts_that_handled(EVENT, ('a', 'b', 'c'), received))

    def test_event_is_stale_if_no_host_has_its_server(self):
        received = {('a', EVENT.id): NOT_HERE, ('b', EVENT.id): NOT_HERE, ('c', EVENT.id): HANDLED}
        self.assertTrue(answers.is_stale(EVENT, ('a', 'b'), received))
        self.assertFalse(answers.is_stale(EVENT, ('a', 'b', 'c'), received))
