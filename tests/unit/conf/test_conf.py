"""The options: each has help, a unit and bounds, and the sample file is generated from them."""

from __future__ import annotations

import pathlib

from oslo_config import cfg
from oslo_config import generator

from external_events_router import conf as router_conf
from external_events_router.conf import opts
from tests import base

GENERATOR = pathlib.Path(__file__).parents[3] / 'etc/external-events-router/config-generator.conf'

#: Options without a maximum: the memory of the machine or the operator limits them.
UNBOUNDED_ABOVE = {'[agent] remembered_events', '[api] max_events', '[host_map] remembered_servers'}


def options() -> list[tuple[str, cfg.Opt]]:
    return [(f'[{group}] {opt.name}', opt) for group, group_opts in opts.list_opts() for opt in group_opts]


class OptionsTest(base.TestCase):
    def test_help_of_every_option_is_sentences(self) -> None:
        for name, opt in options():
            text = (opt.help or '').strip()
            self.assertRegex(text, r'(?s)^[A-Z0-9`].{20,}[.)]$', f'{name}: {text!r}')

    def test_every_number_has_bounds_or_choices(self) -> None:
        for name, opt in options():
            kind = opt.type
            if isinstance(kind, cfg.types.Float | cfg.types.Integer) and not kind.choices:
                self.assertIsNotNone(kind.min, name)
            if isinstance(kind, cfg.types.Integer) and not kind.choices and name not in UNBOUNDED_ABOVE:
                self.assertIsNotNone(kind.max, name)

    def test_help_of_a_duration_names_its_unit(self) -> None:
        for name, opt in options():
            if isinstance(opt.type, cfg.types.Float):
                self.assertIn('second', (opt.help or '').lower(), name)

    def test_no_option_is_listed_twice(self) -> None:
        names = [name for name, _ in options()]
        self.assertEqual(sorted(set(names)), sorted(names))

    def test_every_default_is_a_valid_value(self) -> None:
        conf = cfg.ConfigOpts()
        router_conf.register_all(conf)
        conf([], default_config_files=[], default_config_dirs=[])
        for group, group_opts in opts.list_opts():
            for opt in group_opts:
                conf.set_override(
                    opt.dest,
                    conf[opt.dest] if group == 'DEFAULT' else conf[group][opt.dest],
                    None if group == 'DEFAULT' else group,
                )

    def test_second_registration_has_no_effect(self) -> None:
        conf = cfg.ConfigOpts()
        router_conf.register_all(conf)
        router_conf.register_all(conf)

    def test_every_module_of_a_group_is_registered(self) -> None:
        folder = pathlib.Path(router_conf.__file__).parent
        modules = {path.stem for path in folder.glob('*.py')} - {'__init__', 'opts'}
        registered = {group.__name__.rsplit('.', 1)[1] for group in router_conf.GROUPS}
        self.assertEqual(modules, registered)


class SampleTest(base.TestCase):
    def test_generated_sample_can_be_read(self) -> None:
        sample = pathlib.Path(self.create_tempfiles([('sample', '')])[0])
        conf = cfg.ConfigOpts()
        generator.register_cli_opts(conf)
        conf(
            ['--config-file', str(GENERATOR), '--output-file', str(sample)],
            default_config_files=[],
            default_config_dirs=[],
        )
        generator.generate(conf)
        text = sample.read_text(encoding='utf-8')
        for group, group_opts in opts.list_opts():
            self.assertIn(f'\n[{group}]\n', f'\n{text}')
            for opt in group_opts:
                self.assertIn(f'\n#{opt.dest} =', text, f'[{group}] {opt.name}')
        for library in ('transport_url', 'connection', 'policy_file', 'www_authenticate_uri', 'log_file'):
            self.assertIn(f'\n#{library} = ', text)
        self.assertIn(f'\n#max_request_body_size = {opts.MAX_REQUEST_BODY_SIZE}\n', text)
        self.assertIn('\n#control_exchange = external_events\n', text)

        read = cfg.ConfigOpts()
        router_conf.register_all(read)
        read([], default_config_files=[str(sample)], default_config_dirs=[])
