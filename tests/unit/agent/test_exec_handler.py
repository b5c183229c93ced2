import json
import os
import pathlib
import subprocess
import threading
import time

import fixtures

from external_events_router import context
from external_events_router import events
from external_events_router import exceptions
from external_events_router.agent import descendants
from external_events_router.agent import exec_handler
from external_events_router.conf import exec_handler as exec_options
from tests import base
from tests.unit.agent import helpers


class TestExecHandler(base.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.event = helpers.event('volume-extended', tag='v\n1')

    def _run(self, script, *, timeout=helpers.PATIENCE):
        handler = exec_handler.ExecHandler(['/bin/sh', '-c', script], timeout=timeout)
        return handler(context.for_service(), self.event)

    def _refused(self, script, **kwargs):
        return self.assertRaises(exceptions.Refused, self._run, script, **kwargs).kwargs['reason']

    def _is_gone(self, pid):
        # A killed child of a killed parent is a zombie until init takes it.
        try:
            state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
        except FileNotFoundError:
            return True
        return state == 'Z'

    def test_handled_with_the_event_on_stdin(self):
        got = self.folder / 'got'
        self.assertIsNone(self._run(f'cat > {got}'))
        self.assertEqual(self.event, events.Event.from_dict(json.loads(got.read_text())))

    def test_not_here(self):
        self.assertRaises(exceptions.NotHere, self._run, 'exit 3')

    def test_refused(self):
        self.assertEqual('exit status 5', self._refused('echo "no room" >&2; exit 5'))
        self.assertIn("exit status 5, output 'no room\\n'", self.logs.output)

    def test_killed_by_a_signal(self):
        self.assertEqual('exit status -9', self._refused('kill -9 $$'))

    def test_output_is_bounded(self):
        self.assertIsNone(self._run('head -c 1000000 /dev/zero | tr "\\0" x'))
        self.assertIn('x' * 100, self.logs.output)
        self.assertNotIn('x' * (exec_handler.MAX_OUTPUT + 1), self.logs.output)

    def test_closed_output_is_not_the_end(self):
        before = time.thread_time()
        self.assertEqual('exit status 4', self._refused('exec >&- 2>&-; sleep 0.5; exit 4'))
        # It waits for the end, and does not look for it again and again.
        self.assertLess(time.thread_time() - before, 0.2)

    def test_killed_with_its_children_at_the_timeout(self):
        pids = self.folder / 'pids'
        script = f'sleep 1000 & echo $$ $! > {pids}; wait'
        self.assertEqual('the command took longer than 0.3 s', self._refused(script, timeout=0.3))
        for pid in pids.read_text().split():
            helpers.wait_until(lambda pid=pid: self._is_gone(pid))

    def test_child_left_behind_does_not_hold_the_verdict(self):
        pids = self.folder / 'pids'
        before = time.monotonic()
        self.assertIsNone(self._run(f'sleep 1000 & echo $! > {pids}'))
        self.assertLess(time.monotonic() - before, helpers.PATIENCE)
        os.kill(int(pids.read_text()), 9)

    def test_without_pidfd(self):
        self.useFixture(fixtures.MonkeyPatch('os.pidfd_open', None))
        self.useFixture(
            fixtures.MonkeyPatch('os.pidfd_open', lambda pid: (_ for _ in ()).throw(OSError('no such call')))
        )
        self.assertRaises(exceptions.NotHere, self._run, 'echo x; sleep 0.1; exit 3')

    def test_environment(self):
        for name, value in {
            'OS_PASSWORD': 'secret',
            'OS_CLOUD': 'x',
            'LD_PRELOAD': '',
            'LANG': 'C.UTF-8',
        }.items():
            self.useFixture(fixtures.EnvironmentVariable(name, value))
        got = self.folder / 'environment'
        self._run(f'env > {got}')
        names = {line.partition('=')[0] for line in got.read_text().splitlines()}
        # NOTE: the last ones are the shell's own.
        allowed = {*exec_options.ENVIRONMENT, descendants.MARK, '_', 'PWD', 'OLDPWD', 'SHLVL'}
        self.assertEqual(set(), names - allowed)
        self.assertNotIn('secret', got.read_text())
        self.assertFalse([name for name in names if name.startswith(('OS_', 'LD_'))])
        self.assertIn('LANG=C.UTF-8', got.read_text())
        self.assertIn(f'PATH={os.environ["PATH"]}', got.read_text())

    def test_environment_of_the_configuration(self):
        self.useFixture(fixtures.EnvironmentVariable('A_VARIABLE', 'its value'))
        conf = helpers.make_conf(self)
        got = self.folder / 'environment'
        conf.set_override('command', f"/bin/sh -c 'env > {got}'", 'exec')
        conf.set_override('environment', ['A_VARIABLE', 'NOT_SET'], 'exec')
        exec_handler.ExecHandler.from_conf(conf)(context.for_service(), self.event)
        self.assertIn('A_VARIABLE=its value', got.read_text())
        self.assertNotIn('HOME=', got.read_text())

    def test_children_in_other_sessions_are_killed_at_the_timeout(self):
        pids = self.folder / 'pids'
        # A child in a session of its own; one whose parent has ended; one without our
        # environment; one that has both a new session and a changed directory.
        script = (
            f'setsid sleep 1000 & echo $! >> {pids};'
            f'(setsid sh -c "echo \\$\\$ >> {pids}; exec sleep 1000" &) ;'
            f'env -i setsid sh -c "echo \\$\\$ >> {pids}; cd /; /bin/sleep 1000" & '
            'wait; sleep 1000'
        )
        self._refused(script, timeout=1.5)
        found = pids.read_text().split()
        self.assertEqual(3, len(found))
        for pid in found:
            helpers.wait_until(lambda pid=pid: self._is_gone(pid))

    def test_other_processes_are_not_killed(self):
        other = subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True)
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        self._refused('sleep 1000', timeout=0.3)
        self.assertIsNone(other.poll())

    def test_program_is_gone(self):
        handler = exec_handler.ExecHandler([str(self.folder / 'gone')], timeout=1)
        error = self.assertRaises(exceptions.Refused, handler, context.for_service(), self.event)
        self.assertIn('No such file', str(error))

    def test_close_kills(self):
        started = self.folder / 'started'
        handler = exec_handler.ExecHandler(['/bin/sh', '-c', f'touch {started}; sleep 1000'], timeout=1000)
        reasons = []

        def run():
            try:
                handler(context.for_service(), self.event)
            except exceptions.Refused as exc:
                reasons.append(exc.kwargs['reason'])

        thread = threading.Thread(target=run)
        thread.start()
        helpers.wait_until(started.exists)
        handler.close()
        thread.join(helpers.PATIENCE)
        self.assertEqual(['exit status -9'], reasons)
        run()
        self.assertEqual('the agent is stopping', reasons[1])

    def test_leaves_no_descriptor(self):
        self._run('true')
        before = len(os.listdir('/proc/self/fd'))
        for _ in range(5):
            self._run('echo x')
        self.assertEqual(before, len(os.listdir('/proc/self/fd')))


class TestFromConf(base.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = helpers.make_conf(self)

    def _error(self, command):
        self.conf.set_override('command', command, 'exec')
        error = self.assertRaises(
            exceptions.ConfigurationError, exec_handler.ExecHandler.from_conf, self.conf
        )
        self.assertIn('[exec] command: ', str(error))
        return str(error)

    def test_missing(self):
        self._error(None)
        self._error('  ')

    def test_unbalanced(self):
        self.assertIn('quotation', self._error('sh -c "x'))

    def test_no_such_program(self):
        self.assertIn('/nosuch/program', self._error('/nosuch/program --x'))

    def test_split_without_a_shell(self):
        self.conf.set_override('command', "sh -c 'exit $0' 3", 'exec')
        handler = exec_handler.ExecHandler.from_conf(self.conf)
        self.assertRaises(exceptions.NotHere, handler, context.for_service(), helpers.event())
