"""Shared code of the stories: a router with a journal, and the answer of ``explain``."""

import functools

from external_events_router.journal import completeness
from external_events_router.journal import explain
from external_events_router.journal import next_steps
from external_events_router.journal import queries
from external_events_router.journal import reads
from external_events_router.journal import records
from tests import base
from tests.functional import fixtures

#: A server on host-a, a server that moves, a shelved server, and a server on host-b.
PLACED, MOVING, SHELVED, ON_B = (f'{number:08x}-0000-4000-8000-000000000000' for number in range(1, 5))
HOSTS_OF = {PLACED: ['host-a'], MOVING: ['host-a'], SHELVED: [], ON_B: ['host-b']}

#: Our agent runs on the hosts.
SITE = next_steps.Site()

NAME = 'network-vif-plugged'
PORT = 'port-1'


def plugged(server=PLACED, port=PORT):
    """Return the event of a port that is up, in the form of a request."""
    return fixtures.event(server, NAME, tag=port)


class StoryTestCase(base.TestCase):
    """A story: what happens, and what ``explain`` answers then."""

    def watch(self, router):
        """Take a router whose worker records; times begin with its start.

        :param router: with ``database`` and ``wait_until``
        """
        self.router = router
        self.reader = reads.Reader(router.database)
        self.gaps = functools.partial(completeness.gaps, router.database)
        router.wait_until(self.workers)
        self.began = min(worker.started_at for worker in self.workers())

    def workers(self):
        return completeness.workers(self.router.database, 0, self.reader.now())

    def explained(self, server=PLACED, *, port=None, name=None):
        """Return the answer about a server from the current journal."""
        question = queries.Question(server, self.began, self.reader.now(), port, name)
        history = queries.history(self.reader, self.gaps, question)
        return explain.document(explain.explain(history, SITE))

    def complete(self, server=PLACED, *, port=None):
        """Return the answer about a server, when everything before this call is in the journal."""
        # NOTE: the API sends a refused request to a resolver later, with its age.
        until = self.reader.now() + records.SECOND
        self.router.wait_until(lambda: not self.gaps(self.began, until))
        question = queries.Question(server, self.began, until, port)
        return explain.document(explain.explain(queries.history(self.reader, self.gaps, question), SITE))

    def assert_explained(self, verdict, exit_status, *, sentence='', step='', **question):
        """Wait for a verdict, and compare parts of its sentence and of its next step.

        :param question: see :meth:`explained`
        :returns: the answer
        """
        answers = []

        def is_it():
            answers[:] = [self.explained(**question)]
            return answers[0]['verdict'] == verdict

        try:
            self.router.wait_until(is_it)
        except AssertionError as exc:
            raise AssertionError(f'waited for {verdict}: {answers}') from exc
        self.check(answers[0], verdict, exit_status, sentence=sentence, step=step)
        return answers[0]

    def check(self, answer, verdict, exit_status, *, sentence='', step=''):
        """Compare an answer: parts of its sentence and of its next step."""
        self.assertEqual((verdict, exit_status), (answer['verdict'], answer['exit_status']), answer)
        self.assertIn(sentence, answer['sentence'])
        texts = [str(value) for value in answer['next_step'].values() if value]
        self.assertIn(step, ' '.join(texts))
