"""The help of each command of ``external-events-manage``, and the completion of a shell."""

from __future__ import annotations

import json
import subprocess

from tests import base
from tests import interpreter

#: Prints the output of ``COMMAND --help`` and ``COMMAND -h`` for the commands; each runs in a fork.
HELP = """
import json, os, sys
from external_events_router.cmd import manage
found = {}
for name in manage.COMMANDS:
    for flag in ['--help'] + ['-h'] * (name == 'explain'):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.dup2(writer, 1)
            try:
                status = manage.run([*name.split(), flag])
            except SystemExit as exc:
                status = exc.code
            sys.stdout.flush()
            os._exit(status or 0)
        os.close(writer)
        with os.fdopen(reader) as output:
            text = output.read()
        found[f'{name} {flag}'] = (os.waitpid(pid, 0)[1], text)
print(json.dumps(found))
"""

COMPLETE = 'import sys; from external_events_router.cmd import manage; sys.exit(manage.run(["complete"]))'

#: Completes the last word of its arguments. The function comes with the package bash-completion.
BASH = """
_get_comp_words_by_ref() {
  cur="${COMP_WORDS[COMP_CWORD]}"; prev="${COMP_WORDS[COMP_CWORD-1]}"; words=("${COMP_WORDS[@]}")
}
eval "$SCRIPT"
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); COMPREPLY=()
_external_events_manage
echo "${COMPREPLY[*]}"
"""


class HelpTest(base.TestCase):
    TIMEOUT_SCALING_FACTOR = 5

    def test_each_command_shows_its_own_help(self) -> None:
        done = interpreter.run(HELP, timeout=240)
        self.assertEqual(0, done.returncode, done.stderr)
        found = json.loads(done.stdout)
        self.assertGreater(len(found), 20)
        for words, (status, text) in found.items():
            name = words.rpartition(' ')[0]
            self.assertEqual(0, status, words)
            self.assertTrue(
                text.startswith(f'usage: external-events-manage {name} '), f'{words}: {text[:200]}'
            )


class CompletionTest(base.TestCase):
    def complete(self, *words: str) -> list[str]:
        arguments = ['bash', '-c', BASH, 'bash', 'external-events-manage', *words]
        done = subprocess.run(
            arguments, env={'SCRIPT': self.script}, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    def test_commands_and_options(self) -> None:
        (path,) = self.create_tempfiles([('router', '')])
        done = interpreter.run(COMPLETE.replace('"complete"', f'"--config-file", "{path}", "complete"'))
        self.assertEqual(0, done.returncode, done.stderr)
        self.script = done.stdout
        self.assertEqual(['health', 'held', 'help'], self.complete('he'))
        self.assertIn('retry', self.complete('held', ''))
        self.assertEqual(['--port'], self.complete('explain', '--p'))
