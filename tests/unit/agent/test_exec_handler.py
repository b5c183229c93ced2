import gc
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

    def _killed_at_the_timeout(self, script, pids, number):
        """Run a script that never ends, with a timeout that suffices for the start of its processes.

        :param pids: file to which the script writes the ids of its processes
        :param number: of these processes
        :returns: their ids
        """
        found = []
        for timeout in (0.3, 3.0, 30.0):
            pids.unlink(missing_ok=True)
            reason = self._refused(script, timeout=timeout)
            self.assertEqual(f'the command took longer than {timeout} s', reason)
            found = pids.read_text().split() if pids.exists() else []
            if len(found) == number:
                break
        self.assertEqual(number, len(found))
        return found

    def _is_gone(self, pid):
        # A killed child of a killed parent is a zombie until init takes it.
        try:
            state = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
        except FileNotFoundError:
            return True
        return state == 'Z'

    def test_command_receives_the_event_on_stdin(self):
        got = self.folder / 'got'
        self.assertIsNone(self._run(f'cat > {got}'))
        self.assertEqual(self.event, events.Event.from_dict(json.loads(got.read_text())))

    def test_exit_status_for_an_absent_server(self):
        self.assertRaises(exceptions.NotHere, self._run, 'exit 3')

    def test_exit_status_of_a_failure_refuses_the_event(self):
        self.assertEqual('exit status 5', self._refused('echo "no room" >&2; exit 5'))
        self.assertIn("exit status 5, output 'no room\\n'", self.logs.output)

    def test_command_killed_by_a_signal_refuses_the_event(self):
        self.assertEqual('exit status -9', self._refused('kill -9 $$'))

    def test_output_is_bounded(self):
        self.assertIsNone(self._run('head -c 1000000 /dev/zero | tr "\\0" x'))
        self.assertIn('x' * 100, self.logs.output)
        self.assertNotIn('x' * (exec_handler.MAX_OUTPUT + 1), self.logs.output)

    def test_command_that_closes_its_output_is_waited_for(self):
        before = time.thread_time()
        self.assertEqual('exit status 4', self._refused('exec >&- 2>&-; sleep 0.5; exit 4'))
        # It waits for the end of the command without polling.
        self.assertLess(time.thread_time() - before, 0.2)

    def test_command_and_children_are_killed_at_the_timeout(self):
        pids = self.folder / 'pids'
        script = f'sleep 1000 & echo $$ $! > {pids}; wait'
        for pid in self._killed_at_the_timeout(script, pids, 2):
            helpers.wait_until(lambda pid=pid: self._is_gone(pid))

    def test_background_child_does_not_delay_the_verdict(self):
        pids = self.folder / 'pids'
        before = time.monotonic()
        self.assertIsNone(self._run(f'sleep 1000 & echo $! > {pids}'))
        self.assertLess(time.monotonic() - before, helpers.PATIENCE)
        os.kill(int(pids.read_text()), 9)

    def test_command_runs_without_pidfd(self):
        self.useFixture(fixtures.MonkeyPatch('os.pidfd_open', None))
        self.useFixture(
            fixtures.MonkeyPatch('os.pidfd_open', lambda pid: (_ for _ in ()).throw(OSError('no such call')))
        )
        self.assertRaises(exceptions.NotHere, self._run, 'echo x; sleep 0.1; exit 3')

    def test_environment_describes_the_event(self):
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
        # NOTE: the shell sets the last variables itself.
        allowed = {*exec_options.ENVIRONMENT, descendants.MARK, '_', 'PWD', 'OLDPWD', 'SHLVL'}
        self.assertEqual(set(), names - allowed)
        self.assertNotIn('secret', got.read_text())
        self.assertFalse([name for name in names if name.startswith(('OS_', 'LD_'))])
        self.assertIn('LANG=C.UTF-8', got.read_text())
        self.assertIn(f'PATH={os.environ["PATH"]}', got.read_text())

    def test_environment_of_a_configured_handler(self):
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
        # A child in its own session; a child whose parent has ended; a child without our
        # environment; a child with both a new session and a changed directory.
        script = (
            f'setsid sleep 1000 & echo $! >> {pids};'
            f'(setsid sh -c "echo \\$\\$ >> {pids}; exec sleep 1000" &) ;'
            f'env -i setsid sh -c "echo \\$\\$ >> {pids}; cd /; /bin/sleep 1000" & '
            'wait; sleep 1000'
        )
        for pid in self._killed_at_the_timeout(script, pids, 3):
            helpers.wait_until(lambda pid=pid: self._is_gone(pid))

    def test_other_processes_are_not_killed(self):
        other = subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True)
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        self._refused('sleep 1000', timeout=0.3)
        self.assertIsNone(other.poll())

    def test_missing_program_refuses_the_event(self):
        handler = exec_handler.ExecHandler([str(self.folder / 'gone')], timeout=1)
        error = self.assertRaises(exceptions.Refused, handler, context.for_service(), self.event)
        self.assertIn('No such file', str(error))

    def test_close_kills_the_commands(self):
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

    def test_no_file_descriptor_stays_open(self):
        self._run('true')
        # NOTE: objects of other tests may be collected, and close their files, at any time.
        gc.collect()
        before = len(os.listdir('/proc/self/fd'))
        for _ in range(5):
            self._run('echo x')
        self.assertLessEqual(len(os.listdir('/proc/self/fd')), before)


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

    def test_missing_command(self):
        self._error(None)
        self._error('  ')

    def test_unbalanced_quotes(self):
        self.assertIn('quotation', self._error('sh -c "x'))

    def test_missing_program(self):
        self.assertIn('/nosuch/program', self._error('/nosuch/program --x'))

    def test_command_is_split_without_a_shell(self):
        self.conf.set_override('command', "sh -c 'exit $0' 3", 'exec')
        handler = exec_handler.ExecHandler.from_conf(self.conf)
        self.assertRaises(exceptions.NotHere, handler, context.for_service(), helpers.event())
