"""Who may do what: oslo.policy's rules and their enforcement.

The rules' defaults are here; an operator overrides them in ``[oslo_policy]
policy_file``. Who the caller is, is settled before (see ``auth``).
"""

from __future__ import annotations

from collections.abc import Iterable
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


class Enforcer(policy.Enforcer):
    """oslo.policy's, which sees a change of the operator's file within :data:`LOOK_INTERVAL`."""

    _next_look = 0.0

    def load_rules(self, force_reload: bool = False) -> None:
        """Read what has changed, now and then."""
        now = time.monotonic()
        if force_reload or now >= self._next_look:
            super().load_rules(force_reload)
            # NOTE: not where that failed, so that it is said at each request.
            self._next_look = now + LOOK_INTERVAL


def list_rules() -> Iterable[policy.DocumentedRuleDefault]:
    """The rules, for the sample and documentation generators of oslo.policy."""
    return RULES


def make_enforcer(conf: cfg.ConfigOpts) -> policy.Enforcer:
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


def get_enforcer() -> policy.Enforcer:
    """The enforcer for the tools of oslo.policy, which hand over no configuration."""
    # NOTE: the tools' own options are not ours to read.
    argv = [arg for i, arg in enumerate(sys.argv[1:], 1) if _ours(arg, sys.argv[i - 1])]
    cfg.CONF(argv, project='external-events-router')
    return make_enforcer(cfg.CONF)


def _ours(arg: str, before: str) -> bool:
    names = ('--config-file', '--config-dir')
    return arg.startswith(names) or before in names


def authorize(enforcer: policy.Enforcer, ctxt: context.RequestContext) -> None:
    """Let a caller who may send events pass.

    :raises Fault: 403 that names the rule; the log names the caller's roles
    """
    target = {'project_id': ctxt.project_id, 'user_id': ctxt.user_id}
    try:
        allowed = enforcer.authorize(CREATE, target, ctxt)
    except ValueError as exc:
        # NOTE: the file has changed and is malformed. What was read before is
        # still there, and is asked when it is tried again.
        LOG.error('[oslo_policy] policy_file: %s; the rules stay as they were', ' '.join(str(exc).split()))
        allowed = enforcer.authorize(CREATE, target, ctxt)
    if not allowed:
        LOG.warning('user %r with roles %r is not allowed %s', ctxt.user_id, ctxt.roles, CREATE)
        raise faults.Fault(403, f"Policy doesn't allow {CREATE} to be performed.")
