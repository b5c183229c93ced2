"""Events by a sender's own code: run by the Python that the sender is installed for.

Not part of the tests' own environment::

    python post.py SENDER CONFIGURATION SERVER TAG

The configuration is a file of the sender, with its section for Nova. The result that the
sender reports is printed, as JSON, in the last line; its log messages go
to standard error.
"""

import json
import logging
import sys
import threading


def neutron(config, server, tag):
    """A port is plugged, changed, unplugged and deleted."""
    from keystoneauth1 import loading
    from neutron.conf import common
    from neutron.notifiers import nova
    from oslo_config import cfg

    common.register_core_common_config_opts()
    common.register_nova_opts()
    loading.register_auth_conf_options(cfg.CONF, 'nova')
    loading.register_session_conf_options(cfg.CONF, 'nova')
    cfg.CONF(['--config-file', config], project='neutron')
    cfg.CONF.set_override('send_events_interval', 1)
    notifier = nova.Notifier.get_instance()

    class Port(dict):
        __getattr__ = dict.__getitem__

    def sent():
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()

    port = Port(id=tag, device_id=server, device_owner='compute:nova')
    notifier.notify_port_active_direct(port)
    sent()
    notifier.send_network_change('update_port', {}, {'port': port})
    sent()
    notifier.record_port_status_changed(port, 'DOWN', 'ACTIVE', None)
    notifier.send_port_status(None, None, port)
    sent()
    notifier.send_network_change('delete_port', {}, {'port': port})
    sent()


def cinder(config, server, tag):
    """A volume is extended, and written anew."""
    from cinder import context
    from cinder.common import config as _options  # noqa: F401 - some are registered there
    from cinder.compute import nova
    from oslo_config import cfg

    cfg.CONF(['--config-file', config], project='cinder')
    caller, api = context.get_admin_context(), nova.API()
    return [api.extend_volume(caller, [server], tag), api.reimage_volume(caller, [server], tag)]


def ironic(config, server, _tag):
    """A node's power goes off and on."""
    from ironic.common import context
    from ironic.common import nova
    from ironic.common import states
    from ironic.conf import CONF

    CONF(['--config-file', config], project='ironic')
    caller = context.RequestContext()
    return [nova.power_update(caller, server, state) for state in (states.POWER_OFF, states.POWER_ON)]


def cyborg(config, server, tag):
    """An accelerator is bound."""
    from cyborg.common import nova_client
    from cyborg.conf import CONF

    CONF(['--config-file', config], project='cyborg')
    return nova_client.NovaAPI().notify_binding(server, [(tag, 'completed')])


def tempest(config, server, _tag):
    """As its own test of the API posts, and judges the answer by its schema."""
    from oslo_config import cfg
    from tempest.lib import auth
    from tempest.lib.services.compute import server_external_events_client

    conf = cfg.ConfigOpts()
    names = ('auth_url', 'username', 'password', 'project_name', 'region_name')
    conf.register_opts([cfg.StrOpt(name) for name in names], group='nova')
    conf(['--config-file', config], project='tempest')
    caller = auth.KeystoneV3Credentials(
        username=conf.nova.username,
        password=conf.nova.password,
        project_name=conf.nova.project_name,
        user_domain_id='default',
        project_domain_id='default',
    )
    provider = auth.KeystoneV3AuthProvider(caller, conf.nova.auth_url)
    client = server_external_events_client.ServerExternalEventsClient(
        provider, 'compute', conf.nova.region_name
    )
    events = [{'name': 'network-changed', 'server_uuid': server}]
    return client.create_server_external_events(events=events)['events']


SENDERS = {function.__name__: function for function in (neutron, cinder, ironic, cyborg, tempest)}


def main(sender, *arguments):
    # NOTE: the senders would take our arguments for their own.
    del sys.argv[1:]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format='%(levelname)s %(name)s %(message)s')
    print(json.dumps(SENDERS[sender](*arguments)))


if __name__ == '__main__':
    main(*sys.argv[1:])
