"""Who may do what: oslo.policy's rules and their enforcement.

The rules' defaults are here; an operator overrides them in ``[oslo_policy]
policy_file``. Who the caller is, is settled before (see ``auth``).
"""

from __future__ import annotations

from collections.abc import Hashable
from collections.abc import Iterable
import operator
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

    def allows(self, ctxt: context.RequestContext) -> bool:
        """Whether a caller may send events.

        :raises ValueError: the operator's file has changed, and is malformed
        """
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
        """Read what has changed, now and then."""
        now = time.monotonic()
        if force_reload or now >= self._next_look:
            self._allowed = set()
            super().load_rules(force_reload)
            # NOTE: not where that failed, so that it is said at each request.
            self._next_look = now + LOOK_INTERVAL


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
    except (ValueError, OSError) as exc:
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
    try:
        allowed = enforcer.allows(ctxt)
    except ValueError as exc:
        # NOTE: the file has changed and is malformed. What was read before is
        # still there, and is asked when it is tried again.
        LOG.error('[oslo_policy] policy_file: %s; the rules stay as they were', ' '.join(str(exc).split()))
        allowed = enforcer.allows(ctxt)
    if not allowed:
        LOG.warning('user %r with roles %r is not allowed %s', ctxt.user_id, ctxt.roles, CREATE)
        raise faults.Fault(403, f"Policy doesn't allow {CREATE} to be performed.")
