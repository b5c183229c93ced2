"""The policy rules of the admin API: one rule for each action, and a rule for the projects of operators."""

from __future__ import annotations

from collections.abc import Iterable
import logging

from oslo_config import cfg
from oslo_policy import policy

from external_events_router import context
from external_events_router.api import faults
from external_events_router.api import policies

LOG = logging.getLogger(__name__)

PREFIX = 'external-events'

#: The domain in which ``[admin] operator_projects`` may name projects.
DOMAIN = 'default'

_OPERATOR = f'{PREFIX}:operator_project'
_READER = f'role:admin or (role:reader and rule:{_OPERATOR})'
_ADMIN = 'role:admin'
_SCOPES = ['system', 'project']


def _rule(
    action: str, check: str, description: str, *operations: tuple[str, str]
) -> policy.DocumentedRuleDefault:
    return policy.DocumentedRuleDefault(
        name=f'{PREFIX}:{action}',
        check_str=check,
        description=description,
        operations=[{'method': method, 'path': f'/admin/v1{path}'} for method, path in operations],
        scope_types=_SCOPES,
    )


RULES: list[policy.RuleDefault] = [
    policy.RuleDefault(
        name=_OPERATOR,
        check_str='system_scope:all or True:%(operator_project)s',
        description='The token is for the system or for a project of [admin] operator_projects.',
    ),
    _rule(
        'events:get', _READER, 'Read events of the journal.', ('GET', '/events'), ('GET', '/events/{event}')
    ),
    _rule('events:follow', _READER, 'Wait for new events of the journal.', ('GET', '/events/follow')),
    _rule(
        'servers:get',
        _READER,
        'Read the timeline and the verdict of the events of a server.',
        ('GET', '/servers/{server}/timeline'),
        ('GET', '/servers/{server}/explain'),
    ),
    _rule('held:get', _READER, 'Read events of the hold.', ('GET', '/held'), ('GET', '/held/{event}')),
    _rule(
        'held:retry',
        _ADMIN,
        'Retry held events now, and hold ended events again.',
        ('POST', '/held/retry'),
        ('POST', '/held/retry/preview'),
        ('POST', '/held/{event}/retry'),
    ),
    _rule(
        'held:drop',
        _ADMIN,
        'Delete events of the hold.',
        ('POST', '/held/drop'),
        ('POST', '/held/drop/preview'),
        ('DELETE', '/held/{event}'),
    ),
    _rule('hosts:get', _READER, 'Read the states of hosts.', ('GET', '/hosts'), ('GET', '/hosts/{host}')),
    _rule('replay', _ADMIN, 'Send recorded events of a host again.', ('POST', '/hosts/{host}/replay')),
    _rule('host-map:get', _READER, 'Read the hosts of a server.', ('GET', '/host-map/{server}')),
    _rule('host-map:assign', _ADMIN, 'Add a host to a server.', ('PUT', '/host-map/{server}/hosts/{host}')),
    _rule(
        'host-map:unassign',
        _ADMIN,
        'Remove a host from a server.',
        ('DELETE', '/host-map/{server}/hosts/{host}'),
    ),
    _rule('host-map:forget', _ADMIN, 'Delete a server from the host map.', ('DELETE', '/host-map/{server}')),
    _rule('simulate', _READER, 'Predict the answer to an event.', ('POST', '/simulate')),
    _rule('summary:get', _READER, 'Read the overall state.', ('GET', '/summary')),
    _rule('doctor:get', _READER, 'Check the installation.', ('GET', '/doctor')),
    _rule('actions:get', _READER, 'Read the actions of operators.', ('GET', '/actions')),
]


def list_rules() -> Iterable[policy.RuleDefault]:
    """Return the rules of both APIs, for the sample and documentation generators of oslo.policy."""
    return [*policies.RULES, *RULES]


def make_enforcer(conf: cfg.ConfigOpts) -> policies.Enforcer:
    """Build an enforcer with the rules of both APIs.

    :raises ConfigurationError: a file of the operator cannot be used
    """
    return policies.make_enforcer(conf, rules=list_rules())


def get_enforcer() -> policies.Enforcer:
    """Build an enforcer for the tools of oslo.policy, which pass no configuration."""
    return policies.get_enforcer(rules=list_rules())


def authorize(
    enforcer: policies.Enforcer,
    ctxt: context.RequestContext,
    action: str,
    *,
    operator_projects: Iterable[str],
) -> None:
    """Check that a caller may perform an action.

    :param action: name of the rule without :data:`PREFIX`
    :param operator_projects: see ``[admin] operator_projects``
    :raises Fault: 403 with the name of the rule
    """
    target = {
        'project_id': ctxt.project_id,
        'user_id': ctxt.user_id,
        'operator_project': _is_operator_project(ctxt, frozenset(operator_projects)),
    }
    rule = f'{PREFIX}:{action}'
    try:
        allowed = enforcer.authorize(rule, target, ctxt)
    except policy.InvalidScope:
        allowed = False
    if not allowed:
        LOG.warning(
            'User %a of project %a with roles %a is not permitted %s; answering 403',
            *(ctxt.user_id, ctxt.project_id, ctxt.roles, rule),
        )
        raise faults.Fault(403, f"Policy doesn't allow {rule} to be performed.")


def _is_operator_project(ctxt: context.RequestContext, projects: frozenset[str]) -> bool:
    if ctxt.project_id is None:
        return False
    return ctxt.project_id in projects or (ctxt.project_domain_id == DOMAIN and ctxt.project_name in projects)
