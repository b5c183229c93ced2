"""Checks of Keystone: the user of this service, and the roles of the senders."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystoneauth1 import session as ksa_session
from keystonemiddleware import auth_token

from external_events_router import context
from external_events_router.api import auth
from external_events_router.api import policies
from external_events_router.doctor import base

#: Seconds of one request.
TIMEOUT = 5.0

#: Roles with which Keystone's default policy permits to validate tokens.
VALIDATING = frozenset({'admin', 'service'})

#: Users that send events in a usual installation.
SENDERS = ('neutron', 'cinder', 'ironic', 'cyborg')

GROUP = auth.GROUP


def check_password(site: base.Site) -> base.Result:
    """Get a token for the user of ``[keystone_authtoken]``."""
    if site.conf.api.auth_strategy == 'noauth':
        if auth.is_open(site.conf):
            return base.warn(auth.open_warning(site.conf), 'set [api] auth_strategy = keystone')
        return base.unused('[api] auth_strategy is noauth')
    session, plugin = _login(site)
    user = getattr(site.conf[GROUP], 'username', None)
    try:
        access = plugin.get_access(session)
    except ksa_exceptions.Unauthorized as exc:
        return base.fail(
            f'Keystone refuses the password of user {user}: {_text(exc)}',
            f'correct the options of [{GROUP}], or run: openstack user set --password-prompt {user}',
        )
    except (ksa_exceptions.ConnectFailure, ksa_exceptions.DiscoveryFailure) as exc:
        return base.fail(
            f'Keystone cannot be reached: {_text(exc)}', f'start Keystone, or correct [{GROUP}] auth_url'
        )
    except ksa_exceptions.ClientException as exc:
        return base.fail(_text(exc), f'correct the options of [{GROUP}]')
    roles = sorted(access.role_names)
    if not VALIDATING & set(roles):
        return base.fail(
            f'user {access.username} may not validate tokens with its roles: {", ".join(roles) or "none"}',
            f'openstack role add --user {access.username} --project {access.project_name} service',
        )
    return base.ok(f'user {access.username}, project {access.project_name}, roles {", ".join(roles)}')


def check_senders(site: base.Site) -> base.Result:
    """Evaluate the policy for each role assignment of the senders."""
    if site.conf.api.auth_strategy == 'noauth':
        return base.unused('[api] auth_strategy is noauth')
    session, plugin = _login(site)
    enforcer = policies.make_enforcer(site.conf)
    permitted, refused, unknown = [], [], []
    for name in site.senders or SENDERS:
        try:
            assignments = list(_assignments(session, _root(plugin), name))
        except (ksa_exceptions.Forbidden, ksa_exceptions.Unauthorized):
            return base.warn(
                f'user {plugin.get_access(session).username} may not list users and role assignments',
                f'compare the roles with: openstack role assignment list --names --user {name}; '
                f'the policy needs {policies.RULES[0].check_str}',
            )
        if not assignments:
            unknown.append(name)
        elif any(_is_permitted(enforcer, assignment) for assignment in assignments):
            permitted.append(name)
        else:
            refused.append(name)
    if refused:
        return base.fail(
            f'the policy refuses events of {base.few(refused)}, which get 403',
            f'openstack role add --user {refused[0]} --project service service',
        )
    without = f'; without user or role: {", ".join(unknown)}' if unknown else ''
    if not permitted:
        return base.warn(
            f'none of these users has a role: {", ".join(unknown)}',
            'name the users of the senders with --sender',
        )
    return base.ok(f'the policy permits {", ".join(permitted)}{without}')


def _assignments(session: ksa_session.Session, url: str, user: str) -> Iterator[Mapping[str, Any]]:
    """Yield user, project and roles for each project in which users of a name have roles.

    :param url: of Keystone, without a version
    :raises Forbidden: the user of this service may not read them
    """

    def read(path: str, key: str, **params: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = session.get(f'{url}/v3/{path}', params=params).json()[key]
        return found

    for each in read('users', 'users', name=user):
        of_user = {'user.id': each['id'], 'include_names': 'true', 'effective': 'true'}
        projects: dict[str, list[str]] = {}
        for assignment in read('role_assignments', 'role_assignments', **of_user):
            if project := assignment['scope'].get('project'):
                projects.setdefault(project['id'], []).append(assignment['role']['name'])
        for project_id, roles in projects.items():
            yield {'user_id': each['id'], 'project_id': project_id, 'roles': roles}


def _root(plugin: Any) -> str:
    """Return the URL of Keystone without its version."""
    return str(plugin.auth_url).rstrip('/').removesuffix('/v3')


def _is_permitted(enforcer: policies.Enforcer, assignment: Mapping[str, Any]) -> bool:
    return enforcer.allows(context.RequestContext(overwrite=False, **assignment))


def _login(site: base.Site) -> tuple[ksa_session.Session, Any]:
    """Return a session of the user of ``[keystone_authtoken]``, and its auth plug-in.

    :raises ConfigurationError: the section is not complete
    """
    conf = site.conf
    auth.check_plugin(conf)
    for group, options in auth_token.list_opts():
        conf.register_opts(options, group=group)
    options = conf[GROUP]
    certificate = (options.certfile, options.keyfile) if options.certfile else None
    plugin = loading.load_auth_from_conf_options(conf, GROUP)
    verify = False if options.insecure else (options.cafile or True)
    return ksa_session.Session(auth=plugin, verify=verify, cert=certificate, timeout=TIMEOUT), plugin


def _text(exc: Exception) -> str:
    return ' '.join(str(exc).split())


CHECKS = (
    base.Check('keystone-password', check_password, services=(base.API,), timeout=20.0),
    base.Check(
        'keystone-senders', check_senders, services=(base.API,), needs=('keystone-password',), timeout=30.0
    ),
)
