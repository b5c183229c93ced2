"""The imports between packages: the imports of the design, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import pathlib
import sys
import textwrap

import external_events_router
from tests import base

PACKAGE = 'external_events_router'
ROOT = pathlib.Path(external_events_router.__file__).parent

#: Modules that a package may import from outside itself. A name includes the module and
#: all modules below it. The order is: leaf modules, services, modules that combine services.
ALLOWED = {
    'checks': (),
    'exceptions': ('checks',),
    'ids': (),
    'rejected': ('checks', 'metrics.recorder'),
    'settling': (),
    'plugins': ('exceptions',),
    'throttled_log': (),
    'events': ('checks', 'exceptions', 'ids'),
    'schemas': ('events',),
    'host_lines': ('checks', 'events', 'exceptions'),
    'context': ('ids',),
    'process': ('conf', 'exceptions', 'messaging.amqp.availability', 'messaging.rpc', 'throttled_log'),
    'process.failures': (),
    'process.essential': (),
    'process.parent': (),
    'process.parts': (),
    # The only module that joins two services: the API with an embedded resolver.
    'process.api_application': ('',),
    'concurrency': ('exceptions', 'process.essential', 'process.parts'),
    'messaging.amqp': (
        'checks',
        'exceptions',
        'ids',
        'metrics.recorder',
        'process.essential',
        'process.parts',
        'rejected',
        'settling',
        'throttled_log',
    ),
    'journal': (
        'checks',
        'concurrency',
        'conf',
        'context',
        'db',
        'events',
        'exceptions',
        'metrics.recorder',
        'process',
        'throttled_log',
    ),
    'messaging': (
        'checks',
        'concurrency',
        'context',
        'exceptions',
        'messaging.amqp',
        'metrics.recorder',
        'process.library_log',
        'rejected',
        'settling',
        'throttled_log',
    ),
    'conf': (),
    'conf.opts': ('conf', 'messaging'),
    'db': ('exceptions',),
    'metrics': (
        'checks',
        'events',
        'exceptions',
        'process.bounded_http',
        'process.essential',
        'process.slots',
        'throttled_log',
    ),
    'metrics.recorder': ('events',),
    'process.slots': (),
    'process.bounded_http': (),
    'process.library_log': (),
    'process.monitoring': ('conf', 'db', 'exceptions', 'metrics', 'process', 'resolver.hold.statistics'),
    'api': (
        'concurrency',
        'conf',
        'context',
        'events',
        'exceptions',
        'messaging.amqp.availability',
        'metrics.recorder',
        'process.essential',
        'process.parts',
        'process.readiness',
        'process.slots',
        'schemas',
        'resolver.rpcapi',
        'throttled_log',
    ),
    'resolver': (
        'checks',
        'concurrency',
        'conf',
        'context',
        'db',
        'events',
        'exceptions',
        'host_lines',
        'ids',
        'journal',
        'messaging',
        'metrics.recorder',
        'plugins',
        'process',
        'rejected',
        'settling',
        'throttled_log',
        'agent.rpcapi',
    ),
    # The units of the resolver, without imports upwards: answers and host_map, then plan, lookup
    # and drivers, then health, hold and router, then service.
    'resolver.answers': ('events',),
    'resolver.host_map': (
        'checks',
        'concurrency',
        'db',
        'events',
        'exceptions',
        'host_lines',
        'metrics.recorder',
        'plugins',
        'process.parts',
        'rejected',
        'throttled_log',
    ),
    'resolver.plan': ('events', 'resolver.answers', 'resolver.host_map.base'),
    'resolver.lookup': ('concurrency.batch_loader', 'resolver.host_map.base'),
    # It also records late acknowledgements.
    'resolver.health.observer': ('events', 'journal', 'resolver.health'),
    'resolver.health': (
        'concurrency',
        'exceptions',
        'messaging',
        'metrics.recorder',
        'process.essential',
        'throttled_log',
        'resolver.answers',
        'resolver.drivers.base',
    ),
    'resolver.recording': (
        'checks',
        'events',
        'exceptions',
        'journal',
        'rejected',
        'resolver.answers',
        'resolver.health',
    ),
    'resolver.drivers.nova': (
        'checks',
        'concurrency',
        'conf',
        'context',
        'db',
        'events',
        'exceptions',
        'messaging',
        'resolver.answers',
        'resolver.drivers.base',
        'resolver.drivers.rounds',
        'resolver.host_map',
        'throttled_log',
    ),
    'resolver.rpcapi': ('context', 'events', 'exceptions', 'messaging'),
    'agent': (
        'checks',
        'concurrency',
        'conf',
        'context',
        'events',
        'exceptions',
        'host_lines',
        'messaging',
        'metrics.recorder',
        'plugins',
        'process',
        'rejected',
        'settling',
        'throttled_log',
        'resolver.rpcapi',
    ),
    'agent.rpcapi': ('checks', 'context', 'events', 'exceptions', 'messaging'),
    # The admin API: the pipeline of the senders' API, and the operations.
    'admin': (
        'api',
        'checks',
        'conf',
        'context',
        'db',
        'events',
        'exceptions',
        'journal',
        'operations',
        'process',
        'resolver',
    ),
    # It runs the checks, which import all services.
    'operations.doctor': ('doctor',),
    # The operations of operators, for the commands and the admin API.
    'operations': (
        'checks',
        'conf',
        'db',
        'events',
        'exceptions',
        'journal',
        'messaging',
        'resolver',
    ),
    # The checks of an installation use parts of all services.
    'doctor': ('',),
    'cmd': ('',),
    'wsgi': ('',),
}

#: Those of the above that import from the standard library and each other only.
STANDARD_LIBRARY_ONLY = (
    'checks',
    'exceptions',
    'ids',
    'rejected',
    'settling',
    'events',
    'process.failures',
    'process.essential',
    'process.bounded_http',
    'process.library_log',
    'process.parent',
    'process.parts',
    'process.slots',
)

#: May be imported by these modules only, even if the table allows others.
IMPORTED_BY = {'cmd': ('cmd',), 'wsgi': ('cmd',)}

#: Libraries of green threads.
FORBIDDEN = ('eventlet', 'greenlet', 'gevent')


def below(module: str, package: str) -> bool:
    """Whether a module is a package or in it; every module is in the package ``''``."""
    return not package or module == package or module.startswith(f'{package}.')


def package_of(module: str) -> str | None:
    """The closest entry of the table that a module belongs to."""
    packages = [package for package in ALLOWED if below(module, package)]
    return max(packages, key=len, default=None)


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Every absolute name that a module imports, late imports inside functions too.

    :returns: line numbers and names; ``from a import b`` is ``a.b``
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split('.')[: -node.level] if node.level else []
            origin = '.'.join([*package, *([node.module] if node.module else [])])
            yield from ((node.lineno, f'{origin}.{alias.name}') for alias in node.names)


def problem(module: str, imported: str) -> str | None:
    """Why one of our modules may not import another, or None if it may.

    :param module: without the package's name, as ``resolver.plan``
    :param imported: the same
    """
    package = package_of(module)
    if package is None:
        return f'{module} is in no package of the table'
    for target, importers in IMPORTED_BY.items():
        if below(imported, target) and not any(below(module, importer) for importer in importers):
            return f'{module} must not import {imported}: only {" and ".join(importers)} may'
    allowed = (*ALLOWED[package], package)
    # NOTE: a part of a package with a separate line (an rpcapi) may import
    # less than the package, but the package may import it.
    if any(below(imported, target) for target in allowed):
        return None
    return f'{module} must not import {imported}: {package} may import {", ".join(allowed)}'


def problems(source: str, module: str) -> list[str]:
    """The forbidden imports of one of our modules."""
    found = []
    for line, name in imports(source, f'{PACKAGE}.{module}'):
        if name == PACKAGE:
            reason = None
        elif below(name, PACKAGE):
            reason = problem(module, name.removeprefix(f'{PACKAGE}.'))
        elif any(below(name, other) for other in FORBIDDEN):
            reason = f'{module} must not import {name}: native threads only'
        elif module in STANDARD_LIBRARY_ONLY and not is_standard(name):
            reason = f'{module} must not import {name}: the standard library only'
        else:
            reason = None
        if reason:
            found.append(f'line {line}: {reason}')
    return found


def is_standard(name: str) -> bool:
    """Whether a name is of the standard library."""
    return name.split('.')[0] in sys.stdlib_module_names


def modules() -> Iterator[tuple[str, pathlib.Path]]:
    """Our modules, by their names without the package's."""
    for path in sorted(ROOT.rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
        if name and 'migrations' not in parts:
            yield name, path


class AllowedImportsTest(base.TestCase):
    def test_modules_import_only_allowed_modules(self) -> None:
        found = []
        for module, path in modules():
            found += [f'{path}: {text}' for text in problems(path.read_text(encoding='utf-8'), module)]
        self.assertEqual([], found, '\n'.join(found))

    def test_the_walk_finds_the_package(self) -> None:
        names = {name for name, _ in modules()}
        self.assertLessEqual(
            {'events', 'messaging.rpc', 'conf.opts', 'resolver.rpcapi', 'agent.rpcapi'}, names
        )


def units_below(package: str) -> dict[str, set[str]]:
    """The units of a package, its modules and folders, each with the units that it imports."""
    prefix = f'{PACKAGE}.{package}.'
    units: dict[str, set[str]] = {}
    for module, path in modules():
        if not module.startswith(f'{package}.'):
            continue
        unit = module.split('.')[1]
        source = path.read_text(encoding='utf-8')
        found = {
            name.removeprefix(prefix).split('.')[0]
            for _line, name in imports(source, f'{PACKAGE}.{module}')
            if name.startswith(prefix)
        }
        units.setdefault(unit, set()).update(found - {unit})
    return units


def without_cycles(units: dict[str, set[str]]) -> list[set[str]]:
    """The levels of units, from the bottom. The last level contains the units of cycles, if any."""
    levels: list[set[str]] = []
    remaining = set(units)
    while remaining:
        level = {unit for unit in remaining if not units[unit] & remaining} or set(remaining)
        levels.append(level)
        remaining -= level
    return levels


class CyclesTest(base.TestCase):
    def test_the_units_of_the_resolver_have_no_cycles(self) -> None:
        units = units_below('resolver')
        *_lower, highest = without_cycles(units)
        self.assertEqual({'embedded'}, highest)
        self.assertIn('router', units['endpoint'])

    def test_a_cycle_is_found(self) -> None:
        levels = without_cycles({'a': set(), 'b': {'a', 'c'}, 'c': {'b'}})
        self.assertEqual([{'a'}, {'b', 'c'}], levels)


class TableTest(base.TestCase):
    """The table has the rules of the design: a forbidden import of each kind is found."""

    def check(self, module: str, source: str, *fragments: str) -> None:
        found = problems(textwrap.dedent(source), module)
        self.assertEqual(len(fragments), len(found), found)
        for text, fragment in zip(found, fragments, strict=True):
            self.assertIn(fragment, text)

    def test_a_leaf_imports_no_service(self) -> None:
        for leaf in ('events', 'exceptions', 'context', 'schemas', 'messaging.rpc'):
            for service in ('api.app', 'resolver.rpcapi', 'agent.rpcapi', 'db.models'):
                package, name = service.split('.')
                self.check(leaf, f'from {PACKAGE}.{package} import {name}\n', f'must not import {service}')

    def test_of_another_service_only_its_rpcapi(self) -> None:
        self.check('api.app', f'from {PACKAGE}.resolver import rpcapi\n')
        self.check('api.app', f'from {PACKAGE}.resolver.rpcapi import ResolverAPI\n')
        self.check('api.app', f'from {PACKAGE}.resolver import plan\n', 'must not import resolver.plan')
        self.check(
            'resolver.drivers.agent.deliverer',
            f'from {PACKAGE}.agent import service\n',
            'must not import agent',
        )
        self.check(
            'agent.acker',
            f'import {PACKAGE}.resolver.drivers.agent.acks\n',
            'must not import resolver.drivers',
        )

    def test_a_service_as_a_whole_is_not_its_rpcapi(self) -> None:
        self.check('api.app', f'from {PACKAGE} import resolver\n', 'must not import resolver')

    def test_api_not_agent_and_not_db(self) -> None:
        self.check('api.app', f'from {PACKAGE}.agent import rpcapi\n', 'must not import agent.rpcapi')
        self.check('api.app', f'from {PACKAGE} import db\n', 'must not import db')

    def test_agent_not_api_and_not_db(self) -> None:
        self.check('agent.service', f'from {PACKAGE}.api import app\n', 'must not import api')
        self.check('agent.service', f'from {PACKAGE}.db import session\n', 'must not import db')

    def test_resolver_not_api(self) -> None:
        self.check('resolver.router', f'from {PACKAGE}.api import policies\n', 'must not import api')

    def test_conf_imports_no_module_of_the_package(self) -> None:
        self.check('conf.api', f'from {PACKAGE}.messaging import rpc\n', 'must not import messaging.rpc')
        self.check('conf.opts', f'from {PACKAGE}.messaging import rpc\n')

    def test_nothing_imports_cmd(self) -> None:
        for module in ('messaging.rpc', 'api.app', 'resolver.service', 'agent.service', 'wsgi'):
            self.check(module, f'from {PACKAGE}.cmd import manage\n', 'must not import cmd.manage')

    def test_a_late_import_counts(self) -> None:
        source = f"""
            def late():
                from {PACKAGE}.db import models
                return models
            """
        self.check('api.app', source, 'line 3: api.app must not import db.models')

    def test_a_relative_import_counts(self) -> None:
        self.check('api.app', 'from ..db import models\n', 'must not import db.models')
        self.check('api.app', 'from .. import db\n', 'must not import db')

    def test_green_threads(self) -> None:
        self.check('messaging.rpc', 'import eventlet.green\n', 'native threads')

    def test_the_innermost_leaves_import_the_standard_library_only(self) -> None:
        self.check('events', 'from oslo_utils import uuidutils\n', 'the standard library only')

    def test_new_package_needs_a_line_in_the_table(self) -> None:
        self.check('broker.pool', f'from {PACKAGE}.messaging import rpc\n', 'in no package of the table')
