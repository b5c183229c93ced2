"""Who may do what: oslo.policy's rules and their enforcement.

The rules' defaults are here; an operator overrides them in ``[oslo_policy]
policy_file``. Who the caller is, is settled before (see ``auth``).
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Iterator
import logging
import operator
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

#: The rule's name is the compute service's, so that its policy files serve.
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


#: Seconds between two looks at the operator's file. oslo.policy would look at each
#: request, first in the folders where it may be, and be busy with it for longer than
#: with the rule.
LOOK_INTERVAL = 1.0


#: The rule that allows no token.
DENY_ALL = '!'

#: Callers that are known to be allowed at a time.
REMEMBERED = 1000

#: All that a rule can ask of a caller, as oslo.context has it for oslo.policy.
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
    """oslo.policy's, which sees a change of the operator's file within :data:`LOOK_INTERVAL`.

    Until the next look it also knows whom it has allowed: a few services send all
    events, and the check of a rule takes as long as that of a whole request's body.
    """

    _next_look = 0.0
    _allowed: set[Hashable] = set()
    # The fault of the policy files that was logged last.
    _problem: str | None = None

    def allows(self, ctxt: context.RequestContext) -> bool:
        """Whether a caller may send events."""
        self.load_rules()
        # NOTE: this very set, also where the rules are read anew meanwhile.
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
        """Read changed files, at most once per interval; files with a fault change nothing.

        Files are checked as a whole before oslo.policy, which would have forgotten the
        previous rules, reads the first of them.
        """
        now = time.monotonic()
        if not force_reload and now < self._next_look:
            return
        # NOTE: before the look, so that other threads do not look too.
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
    """Insist that the operator's files can be used.

    :raises ValueError: naming the file and its fault
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
        # NOTE: oslo.policy also takes its old form, lists of lists, of which an empty
        # one allows every token.
        raise ValueError(f'{path}: the rule {name!r} is not a string; write it in quotes')
    if not rule.strip():
        raise ValueError(
            f'{path}: the rule {name!r} is empty, which would allow every token; '
            'write "@" to allow every token, or "!" to allow none'
        )
    if rule.strip() != DENY_ALL and _parsed(rule) == DENY_ALL:
        raise ValueError(f'{path}: the rule {name!r} cannot be parsed; correct its syntax')


def _parsed(rule: str) -> str:
    # NOTE: oslo.policy replaces a rule that it cannot parse by one that denies all tokens,
    # and logs a traceback.
    parser = logging.getLogger('oslo_policy._parser')
    parser.disabled = True
    try:
        return str(policy.RuleDefault('any', rule).check)
    finally:
        parser.disabled = False


def list_rules() -> Iterable[policy.DocumentedRuleDefault]:
    """The rules, for the sample and documentation generators of oslo.policy."""
    return RULES


def make_enforcer(conf: cfg.ConfigOpts) -> Enforcer:
    """An enforcer of the rules, with the operator's overrides.

    :raises ConfigurationError: the file with the overrides cannot be read
    """
    opts.set_defaults(conf)
    enforcer = Enforcer(conf)
    enforcer.register_defaults(RULES)
    try:
        enforcer.load_rules()
    except Exception as exc:
        raise exceptions.ConfigurationError(option='[oslo_policy] policy_file', reason=str(exc)) from exc
    return enforcer


def get_enforcer() -> Enforcer:
    """The enforcer for the tools of oslo.policy, which hand over no configuration."""
    # NOTE: the tools' own options are not ours to read.
    argv = [arg for i, arg in enumerate(sys.argv[1:], 1) if _ours(arg, sys.argv[i - 1])]
    cfg.CONF(argv, project='external-events-router')
    return make_enforcer(cfg.CONF)


def _ours(arg: str, before: str) -> bool:
    names = ('--config-file', '--config-dir')
    return arg.startswith(names) or before in names


def authorize(enforcer: Enforcer, ctxt: context.RequestContext) -> None:
    """Let a caller who may send events pass.

    :raises Fault: 403 that names the rule; the log names the caller's roles
    """
    allowed = enforcer.allows(ctxt)
    if not allowed:
        LOG.warning('user %r with roles %r is not allowed %s', ctxt.user_id, ctxt.roles, CREATE)
        raise faults.Fault(403, f"Policy doesn't allow {CREATE} to be performed.")
