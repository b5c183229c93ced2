"""The check of the wording (``.ci/wording.py``)."""

import importlib.util
import io
import pathlib
import types

import fixtures

from tests import base

TREE = pathlib.Path(__file__).parents[2]


def load() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location('wording', TREE / '.ci' / 'wording.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class WordingTest(base.TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.wording = load()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)

    def findings(self, name: str, text: str) -> list[str]:
        path = self.folder / name
        path.write_text(text)
        found, _words = self.wording.findings(path)
        return [finding.split(': ', 1)[1] for finding in found]

    def test_a_finding_names_the_phrase_and_the_remedy(self) -> None:
        self.assertEqual(
            ["'nobody': name the person or the process"], self.findings('page.rst', 'Then nobody waits.\n')
        )

    def test_comments_docstrings_and_messages_are_checked(self) -> None:
        for text in (
            '# The server has nobody\n',
            '"""The queue where it is there."""\n',
            "print('the file is no JSON document')\n",
        ):
            self.assertEqual(1, len(self.findings('module.py', text)), text)

    def test_code_and_short_strings_are_not_checked(self) -> None:
        self.assertEqual([], self.findings('module.py', "nobody = 'nobody'\nwhom = [nobody]\n"))

    def test_literal_blocks_of_pages_are_not_checked(self) -> None:
        page = 'An example::\n\n    nobody says this\n\nThe text goes on, and nobody reads it.\n'
        self.assertEqual(1, len(self.findings('page.rst', page)))

    def test_ordinary_sentences_have_no_findings(self) -> None:
        for text in (
            'The resolver is no longer available, and there are no more than two hosts.',
            'The operator who upgrades the hosts can see what the agent reports.',
            'If the file is not there yet, the service creates it.',
        ):
            self.assertEqual([], self.findings('page.rst', text))

    def test_long_files_may_have_more_findings(self) -> None:
        path = pathlib.PurePosixPath('external_events_router/api/app.py')
        self.assertEqual(self.wording.FREE, self.wording.allowed(path, 100))
        self.assertEqual(self.wording.FREE + 2, self.wording.allowed(path, 2000))

    def test_too_many_findings_fail(self) -> None:
        page = self.folder / 'page.rst'
        page.write_text('Nobody knows.\n' * self.wording.FREE)
        output = io.StringIO()
        self.useFixture(fixtures.MonkeyPatch('sys.stdout', output))
        self.assertEqual(0, self.wording.main([str(page)]))
        page.write_text('Nobody knows.\n' * (self.wording.FREE + 1))
        self.assertEqual(1, self.wording.main([str(self.folder)]))
        self.assertIn(f'at most {self.wording.FREE} are allowed', output.getvalue())
