"""Permissions: the rules of oslo.policy and their enforcement.

This module contains the defaults of the rules; an operator changes them in ``[oslo_policy]
policy_file``. The caller was authenticated before (see ``auth``).
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Iterator
import logging
import operator
import os
import pathlib
import sys
import time

from oslo_config import cfg
from oslo_log import log
from oslo_policy import opts
from oslo_policy import policy

from external_events_router import context
from external_events_router import exceptions
from external_events_router.api import faults

LOG = log.getLogger(__name__)

#: The name of Nova's rule, so that policy files of Nova can be used.
CREATE = 'os_compute_api:os-server-external-events:create'

RULES = [
    policy.DocumentedRuleDefault(
        name=CREATE,
        check_str='role:service or role:admin',
        description='Send external events to the hosts of servers.',
        operations=[{'method': 'POST', 'path': '/os-server-external-events'}],
        scope_types=['project'],
    ),
]


#: Seconds between two checks of the operator's file for changes. oslo.policy would check it for each
#: request, first in all folders where it may be, which takes longer than the rule itself.
LOOK_INTERVAL = 1.0


#: The rule that permits no token.
DENY_ALL = '!'

#: Maximum number of permitted callers that are cached.
REMEMBERED = 1000

#: Attributes of a caller that a rule can use, as oslo.context passes them to oslo.policy.
_ATTRIBUTES = operator.attrgetter(
    'user_id',
    'user_domain_id',
    'system_scope',
    'domain_id',
    'project_id',
    'project_domain_id',
    'is_admin_project',
    'service_user_id',
    'service_user_domain_id',
    'service_project_id',
    'service_project_domain_id',
)


class Enforcer(policy.Enforcer):
    """The enforcer of oslo.policy. It applies changes of the operator's file within :data:`LOOK_INTERVAL`.

    Until the next check it also caches permitted callers: a few services send all events, and
    checking a rule takes as long as validating the whole body of a request.
    """

    _next_look = 0.0
    _allowed: set[Hashable] = set()
    # The error of the policy files that was logged last.
    _problem: str | None = None

    def allows(self, ctxt: context.RequestContext) -> bool:
        """Return whether a caller may send events."""
        self.load_rules()
        # NOTE: keep this set, also if another thread reads the rules again and replaces it meanwhile.
        allowed = self._allowed
        caller = (*_ATTRIBUTES(ctxt), *ctxt.roles, None, *ctxt.service_roles)
        if caller in allowed:
            return True
        target = {'project_id': ctxt.project_id, 'user_id': ctxt.user_id}
        if not self.authorize(CREATE, target, ctxt):
            return False
        if len(allowed) < REMEMBERED:
            allowed.add(caller)
        return True

    def load_rules(self, force_reload: bool = False) -> None:
        """Read changed files, at most once per interval. Files with an error change nothing.

        All files are checked before oslo.policy reads the first of them, because it would then
        have deleted the previous rules.
        """
        now = time.monotonic()
        if not force_reload and now < self._next_look:
            return
        # NOTE: set this before checking the files, so that other threads do not check them too.
        self._next_look = now + LOOK_INTERVAL
        self._allowed = set()
        try:
            check_files(self)
            super().load_rules(force_reload)
        except Exception as exc:
            if not self.rules:
                raise
            self._keep(' '.join(str(exc).split()))
        else:
            self._problem = None

    def _keep(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            LOG.error(
                '[oslo_policy] policy_file: %s; the previous rules stay in effect until it is corrected',
                problem,
            )


def check_files(enforcer: policy.Enforcer) -> None:
    """Check that the operator's files can be used.

    :raises ValueError: with the file and its error
    """
    options = enforcer.conf.oslo_policy
    for path in _files(enforcer.conf, options.policy_file, options.policy_dirs):
        _check_file(path)


def _files(conf: cfg.ConfigOpts, name: str, folders: Iterable[str]) -> Iterator[pathlib.Path]:
    if found := conf.find_file(name):
        yield pathlib.Path(found)
    for folder in folders:
        if (found := conf.find_file(folder)) and (path := pathlib.Path(found)).is_dir():
            yield from (
                each for each in sorted(path.iterdir()) if each.is_file() and not each.name.startswith('.')
            )


def _check_file(path: pathlib.Path) -> None:
    # NOTE: reading from a pipe or a device may never end.
    if path.exists() and not (path.is_file() or path.is_dir() or path.samefile(os.devnull)):
        raise ValueError(f'{path} is not a regular file')
    try:
        rules: object = policy.parse_file_contents(path.read_bytes().decode('utf-8'))
    except OSError as exc:
        raise ValueError(f'{path} cannot be read: {exc.strerror}') from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f'{path} is not UTF-8 at byte {exc.start}') from exc
    except (ValueError, RecursionError) as exc:
        raise ValueError(f'{path} is not YAML: {" ".join(str(exc).split())}') from exc
    if not isinstance(rules, dict):
        raise ValueError(f'{path} is not a mapping of rule names to rules, but a {type(rules).__name__}')
    for name, rule in rules.items():
        _check_rule(path, name, rule)


def _check_rule(path: pathlib.Path, name: object, rule: object) -> None:
    if not isinstance(name, str):
        raise ValueError(f'{path}: the rule name {name!r} is not a string; write it in quotes')
    if not isinstance(rule, str):
        # NOTE: oslo.policy also accepts its old format, lists of lists. An empty list in it permits
        # every token.
        raise ValueError(f'{path}: the rule {name!r} is not a string; write it in quotes')
    if not rule.strip():
        raise ValueError(
            f'{path}: the rule {name!r} is empty, which would allow every token; '
            'write "@" to allow every token, or "!" to allow none'
        )
    if rule.strip() != DENY_ALL and _parsed(rule) == DENY_ALL:
        raise ValueError(f'{path}: the rule {name!r} cannot be parsed; correct its syntax')


def _parsed(rule: str) -> str:
    # NOTE: oslo.policy replaces a rule that it cannot parse by a rule that denies all tokens, and
    # logs a traceback.
    parser = logging.getLogger('oslo_policy._parser')
    parser.disabled = True
    try:
        return str(policy.RuleDefault('any', rule).check)
    finally:
        parser.disabled = False


def list_rules() -> Iterable[policy.DocumentedRuleDefault]:
    """Return the rules, for the sample and documentation generators of oslo.policy."""
    return RULES


def make_enforcer(conf: cfg.ConfigOpts, *, rules: Iterable[policy.RuleDefault] = RULES) -> Enforcer:
    """Build an enforcer with the rules of the operator.

    :param rules: defaults of all rules
    :raises ConfigurationError: a file of the operator cannot be used
    """
    opts.set_defaults(conf)
    enforcer = Enforcer(conf)
    enforcer.register_defaults(list(rules))
    try:
        enforcer.load_rules()
    except Exception as exc:
        raise exceptions.ConfigurationError(option='[oslo_policy] policy_file', reason=str(exc)) from exc
    return enforcer


def get_enforcer(*, rules: Iterable[policy.RuleDefault] = RULES) -> Enforcer:
    """Build an enforcer for the tools of oslo.policy, which pass no configuration.

    :param rules: see :func:`make_enforcer`
    """
    # NOTE: keep only the options of this service; the others belong to the tool.
    argv = [arg for i, arg in enumerate(sys.argv[1:], 1) if _is_configuration(arg, sys.argv[i - 1])]
    cfg.CONF(argv, project='external-events-router')
    return make_enforcer(cfg.CONF, rules=rules)


def _is_configuration(arg: str, before: str) -> bool:
    names = ('--config-file', '--config-dir')
    return arg.startswith(names) or before in names


def authorize(enforcer: Enforcer, ctxt: context.RequestContext) -> None:
    """Check that a caller may send events.

    :raises Fault: 403 with the name of the rule; the roles of the caller are logged
    """
    allowed = enforcer.allows(ctxt)
    if not allowed:
        LOG.warning(
            'User %r with roles %r is not permitted %s; answering 403, the events are lost',
            ctxt.user_id,
            ctxt.roles,
            CREATE,
        )
        raise faults.Fault(403, f"Policy doesn't allow {CREATE} to be performed.")
