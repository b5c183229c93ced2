import json
import os
import pathlib
import threading

import fixtures

from external_events_router import exceptions
from external_events_router.agent import sources
from tests import base
from tests.unit.agent import helpers


class TestFileSource(base.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'servers.jsonl'

    def _write(self, *lines):
        beside = self.path.with_suffix('.new')
        beside.write_text(''.join(f'{line}\n' for line in lines))
        os.replace(beside, self.path)

    def _line(self, server, *hosts):
        return json.dumps({'server': server, 'hosts': list(hosts)})

    def _source(self, *hosts, **kwargs):
        source = sources.FileSource(str(self.path), hosts or ('a',), **kwargs)
        self.addCleanup(source.close)
        return source

    def test_file_lists_the_servers_of_each_host(self):
        self._write(
            self._line(helpers.SERVER.upper(), 'a', 'b'), '', self._line(helpers.OTHER_SERVER, 'b', 'c')
        )
        source = self._source('a', 'b', 'empty')
        self.assertEqual({helpers.SERVER}, source.servers('a'))
        self.assertEqual({helpers.SERVER, helpers.OTHER_SERVER}, source.servers('b'))
        self.assertEqual(frozenset(), source.servers('empty'))

    def test_file_is_read_again_without_a_watch(self):
        self._write(self._line(helpers.SERVER, 'a'))
        source = self._source()
        self._write(self._line(helpers.SERVER), self._line(helpers.OTHER_SERVER, 'a'))
        self.assertEqual({helpers.OTHER_SERVER}, source.servers('a'))

    def test_watch_reports_changes(self):
        self._write()
        source = self._source(look_interval=0.01)
        changed, other = threading.Event(), threading.Event()
        source.watch(changed.set)
        source.watch(other.set)
        self._write(self._line(helpers.SERVER, 'a'))
        self.assertTrue(changed.wait(helpers.PATIENCE))
        self.assertTrue(other.wait(helpers.PATIENCE))

    def test_invalid_content_keeps_the_previous_servers(self):
        self._write(self._line(helpers.SERVER, 'a'))
        source = self._source()
        self._write(self._line(helpers.OTHER_SERVER, 'a'), '{"server":')
        # The invalid line could belong to the first server, which must not be lost.
        for _ in range(2):
            self.assertEqual({helpers.SERVER, helpers.OTHER_SERVER}, source.servers('a'))
        self.assertEqual(1, self.logs.output.count('correct them. The first: line 2'))
        self._write('{"server":')
        self.assertEqual({helpers.SERVER, helpers.OTHER_SERVER}, source.servers('a'))
        self.assertEqual(1, self.logs.output.count('cannot be used: line 1'))
        self._write(self._line(helpers.SERVER, 'a'))
        self.assertEqual({helpers.SERVER}, source.servers('a'))
        self.path.unlink()
        self.assertEqual({helpers.SERVER}, source.servers('a'))
        self._write(self._line(helpers.OTHER_SERVER, 'a'))
        self.assertEqual({helpers.OTHER_SERVER}, source.servers('a'))

    def test_invalid_first_line_hides_no_other_line(self):
        self._write('{"server":', self._line(helpers.SERVER, 'a'), '[]')
        self.assertEqual({helpers.SERVER}, self._source().servers('a'))
        self.assertIn('correct them. The first: line 1', self.logs.output)

    def test_invalid_lines(self):
        for line in ('x', '[]', '{}', '{"server": 1, "hosts": []}', '[' * 100000):
            self._write(line)
            self.assertRaises(exceptions.BadLine, self._source)
        for hosts in ('"a"', 'null', '[1]', '["a b"]', '["a", "a"]'):
            self._write(f'{{"server": "{helpers.SERVER}", "hosts": {hosts}}}')
            self.assertRaises(exceptions.BadLine, self._source)


class TestLoad(base.TestCase):
    def setUp(self):
        super().setUp()
        self.conf = helpers.make_conf(self)

    def _error(self):
        return str(self.assertRaises(exceptions.ConfigurationError, sources.load, self.conf, ['a']))

    def test_no_source(self):
        source = sources.load(self.conf, ['a'])
        self.assertIsNone(source.servers('a'))
        source.watch(self.fail)
        source.close()

    def test_unknown_source(self):
        self.conf.set_override('source', 'nosuch', 'agent')
        self.assertEqual("[agent] source: unknown value 'nosuch'; use one of: file, none", self._error())

    def test_missing_file(self):
        self.conf.set_override('source', 'file', 'agent')
        self.assertEqual('[agent] source_file: is not set, but source = file needs it', self._error())
        self.conf.set_override('source_file', '/nosuch/file', 'agent')
        self.assertEqual('[agent] source_file: /nosuch/file: No such file or directory', self._error())

    def test_invalid_file(self):
        path = pathlib.Path(self.useFixture(fixtures.TempDir()).path) / 'f'
        path.write_text('x\n')
        self.conf.set_override('source', 'file', 'agent')
        self.conf.set_override('source_file', str(path), 'agent')
        self.assertIn(f'[agent] source_file: {path}: line 1: ', self._error())
