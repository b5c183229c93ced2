"""The configuration files of this process: where they are, and which of their options are unknown.

oslo.config ignores an option that no code has registered, for example a name with a typing error.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import difflib
import logging
import os
import pathlib
import re

from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import _options as log_options
from oslo_messaging import opts as messaging_opts
from oslo_middleware import opts as middleware_opts
from oslo_policy import opts as policy_opts

from external_events_router.conf import opts

LOG = logging.getLogger(__name__)

#: Groups of libraries whose options depend on plug-ins, so that they are not checked.
UNCHECKED = frozenset({'keystone_authtoken', 'service_user', 'oslo_limit'})

#: Options of libraries that only some of the commands load.
_ELSEWHERE = {'DEFAULT': {'graceful_shutdown_timeout', 'log_options'}, 'healthcheck': {'path'}}

#: Groups with names of the form ``<prefix><name>`` that libraries read.
_PREFIXES = ('oslo_', 'keystone', 'cache')

_SECTION = re.compile(r'\s*\[([^\]]+)\]')
_VALUE = re.compile(r'([^\s=:#;][^=:]*?)\s*[=:]')


@dataclasses.dataclass(frozen=True)
class Setting:
    """A value in a file.

    :ivar line: number of its line, from 1
    """

    path: str
    line: int
    group: str
    name: str


def paths(conf: cfg.ConfigOpts) -> list[str]:
    """Return the files that the process reads, in their order."""
    found = list(conf.config_file or conf.default_config_files or ())
    for folder in conf.config_dir or conf.default_config_dirs or ():
        found += map(str, sorted(pathlib.Path(folder).glob('*.conf')))
    return found


def searched(project: str, prog: str) -> list[str]:
    """Return the files that oslo.config searches if the command line names none."""
    folders = (f'~/.{project}', '~', f'/etc/{project}', '/etc')
    return [
        os.path.join(os.path.expanduser(folder), f'{name}.conf')
        for folder in folders
        for name in (project, prog)
    ]


def settings(path: str) -> Iterator[Setting]:
    """Yield the values of a file; a file that cannot be read has none."""
    group = 'DEFAULT'
    try:
        lines = pathlib.Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for number, line in enumerate(lines, 1):
        if match := _SECTION.match(line):
            group = match[1].strip()
        elif match := _VALUE.match(line):
            yield Setting(path, number, group, match[1])


def find(conf: cfg.ConfigOpts, group: str, names: frozenset[str]) -> Setting | None:
    """Return the setting that determines the value of an option; None: no file contains it."""
    last = None
    for path in paths(conf):
        for setting in settings(path):
            if setting.group == group and _normal(setting.name) in names:
                last = setting
    return last


def limits(opt: cfg.Opt) -> str | None:
    """Return the values that an option accepts; None: any value of its type."""
    kind = opt.type
    choices = getattr(kind, 'choices', None)
    if choices:
        return f'one of {", ".join(map(str, choices))}'
    low, high = getattr(kind, 'min', None), getattr(kind, 'max', None)
    if low is None and high is None:
        return None
    if high is None:
        return f'at least {low}'
    return f'at most {high}' if low is None else f'{low} to {high}'


def explain(conf: cfg.ConfigOpts, group: str, opt: cfg.Opt, reason: str) -> str:
    """Return why a value is not valid: its file and line, the reason, and the accepted values.

    :param reason: text of the error of oslo.config
    """
    setting = find(conf, group, names_of(opt))
    place = f'{setting.path}, line {setting.line}: ' if setting else ''
    accepted = limits(opt)
    return f'{place}{reason.partition(" is not valid: ")[2] or reason}' + (
        f' (accepted: {accepted})' if accepted else ''
    )


def warn_about_unknown(conf: cfg.ConfigOpts) -> None:
    """Log a WARNING for each option in a file that neither this service nor a library knows."""
    for setting, hint in unknown(conf):
        LOG.warning(
            '%s, line %d: option [%s] %s is unknown and has no effect%s',
            setting.path,
            setting.line,
            setting.group,
            setting.name,
            hint,
        )


def unknown(conf: cfg.ConfigOpts) -> Iterator[tuple[Setting, str]]:
    """Yield each option in a file that neither this service nor a library knows.

    :returns: the option, and a hint, possibly empty
    """
    known = _known(conf)
    for path in paths(conf):
        for setting in settings(path):
            hint = _problem(setting, known)
            if hint is not None:
                yield setting, hint


def _problem(setting: Setting, known: Mapping[str, frozenset[str]]) -> str | None:
    """Return a hint for an unknown option, possibly empty; None: the option is known."""
    if setting.group in UNCHECKED:
        return None
    if setting.group not in known:
        if setting.group.startswith(_PREFIXES):
            return None
        near = difflib.get_close_matches(setting.group, known, 1)
        return f'; there is no group [{setting.group}]' + (f', but [{near[0]}]' if near else '')
    name = _normal(setting.name)
    if name in known[setting.group]:
        return None
    if groups := sorted(group for group, names in known.items() if name in names):
        return f'; it is an option of [{groups[0]}]'
    near = difflib.get_close_matches(name, known[setting.group], 1)
    return f'; the nearest name is {near[0]}' if near else ''


def _known(conf: cfg.ConfigOpts) -> dict[str, frozenset[str]]:
    """Return the groups, and the names of their options."""
    names: dict[str, set[str]] = {group: set(found) for group, found in _ELSEWHERE.items()}
    libraries = (messaging_opts, db_options, log_options, middleware_opts, policy_opts)
    for module in (opts, *libraries):
        for group, group_opts in module.list_opts():
            for opt in group_opts:
                _add(names, str(group or 'DEFAULT'), opt)
    # NOTE: options that the command and further libraries have registered.
    for name, info in conf._opts.items():
        names.setdefault('DEFAULT', set()).add(_normal(name))
        _add(names, 'DEFAULT', info['opt'])
    for group_name, group in conf._groups.items():
        for info in group._opts.values():
            _add(names, group_name, info['opt'])
    return {group: frozenset(found) for group, found in names.items()}


def _add(names: dict[str, set[str]], group: str, opt: cfg.Opt) -> None:
    names.setdefault(group, set()).update(names_of(opt))
    for old in opt.deprecated_opts:
        names.setdefault(old.group or group, set()).add(_normal(old.name or opt.dest))


def names_of(opt: cfg.Opt) -> frozenset[str]:
    """Return the names with which a file can set an option."""
    return frozenset({_normal(opt.name), opt.dest})


def _normal(name: str) -> str:
    return name.replace('-', '_')
