"""The place and the limits of an option in configuration files."""

from __future__ import annotations

from oslo_config import cfg

from external_events_router.process import config_files
from tests import base


class LimitsTest(base.TestCase):
    def test_each_form(self) -> None:
        for opt, text in (
            (cfg.IntOpt('x', min=1), 'at least 1'),
            (cfg.FloatOpt('x', max=2.5), 'at most 2.5'),
            (cfg.PortOpt('x'), '0 to 65535'),
            (cfg.StrOpt('x', choices=['a', 'b']), 'one of a, b'),
            (cfg.StrOpt('x'), None),
        ):
            self.assertEqual(text, config_files.limits(opt))


class FilesTest(base.TestCase):
    def test_the_last_value_of_all_files_counts(self) -> None:
        first, second = self.create_tempfiles(
            [('one', '[api]\nworkers = 3\nworkers=4\n'), ('two', '[api]\nbind-port = 1\n[x]\nworkers = 1\n')]
        )
        conf = cfg.ConfigOpts()
        conf(['--config-file', first, '--config-file', second], project='p', prog='q')
        names = config_files.names_of(cfg.IntOpt('workers'))
        self.assertEqual(
            config_files.Setting(first, 3, 'api', 'workers'), config_files.find(conf, 'api', names)
        )
        names = config_files.names_of(cfg.PortOpt('bind_port'))
        found = config_files.find(conf, 'api', names)
        self.assertEqual(config_files.Setting(second, 2, 'api', 'bind-port'), found)
        self.assertIsNone(config_files.find(conf, 'y', names))
