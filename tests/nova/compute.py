"""Run with Nova's interpreter: Nova's own compute manager on Nova's own RPC servers, with its fake driver.

``compute.py CONFIG HOST TOPIC... [--wait UUID NAME TAG]...``. It is not the whole
service: there is neither Neutron nor Placement, so it does not start up as one
and reports nothing. Prints a JSON line for everything that the tests want to know.
"""

import argparse
import json
import os
import sys
import threading
import time

NATIVE = os.environ.get('OS_NOVA_DISABLE_EVENTLET_PATCHING') == '1'
if not NATIVE:
    from nova import monkey_patch

    if hasattr(monkey_patch, 'patch'):
        monkey_patch.patch()

from nova import config  # noqa: E402
from nova import context  # noqa: E402
from nova import objects  # noqa: E402
from nova import rpc  # noqa: E402
from nova.compute import manager as compute  # noqa: E402
from nova.network import neutron  # noqa: E402
from nova.objects import base  # noqa: E402
from nova.scheduler.client import report  # noqa: E402
import oslo_messaging as messaging  # noqa: E402


def log(what, **more):
    """Print a line, whole."""
    sys.stdout.write(json.dumps({'what': what, **more}) + '\n')
    sys.stdout.flush()


class Neutron:
    """A Neutron without ports: a refresh of the network cache removes all of its entries."""

    def list_ports(self, *args, **kwargs):
        return {'ports': []}

    def list_networks(self, *args, **kwargs):
        return {'networks': []}

    def show_port(self, *args, **kwargs):
        return {'port': {}}


def watched(manager):
    """Say what the manager is given, and fail where a test wants it."""
    handle, refresh = manager.external_instance_event, manager.network_api.get_instance_nw_info

    def external_instance_event(context, instances, events):
        log(
            'called',
            instances=[instance.obj_to_primitive() for instance in instances],
            events=[[event.name, event.instance_uuid, event.status, event.tag] for event in events],
            request_id=context.request_id,
            user_id=context.user_id,
            is_admin=context.is_admin,
        )
        try:
            handle(context, instances, events)
        except Exception as exc:
            log('failed', error=type(exc).__name__, text=str(exc))
            raise
        log('handled', request_id=context.request_id)

    def get_instance_nw_info(context, instance, **kwargs):
        tag = str(kwargs.get('refresh_vif_id'))
        if tag.startswith('fail'):
            raise RuntimeError('told to fail')
        if tag.startswith('slow'):
            time.sleep(float(tag.removeprefix('slow')))
        return refresh(context, instance, **kwargs)

    manager.external_instance_event = external_instance_event
    manager.network_api.get_instance_nw_info = get_instance_nw_info


def wait_for(manager, uuid, name, tag):
    """Wait for an event as a boot does, and say when it comes."""
    instance = objects.Instance.get_by_uuid(context.get_admin_context(), uuid)
    with manager.virtapi.wait_for_instance_event(instance, [(name, tag)]):
        log('waiting', event=[name, tag])
    log('woken', event=[name, tag])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('host')
    parser.add_argument('topics', nargs='+')
    parser.add_argument('--wait', nargs=3, action='append', default=[])
    options = parser.parse_args()
    config.parse_args(['nova-compute', '--config-file', options.config])
    compute.CONF.set_override('host', options.host)
    objects.register_all()
    neutron.get_client = lambda context, admin=False: Neutron()
    # There is no Placement to ask, and nothing here that would.
    report.SchedulerReportClient._create_client = lambda self: None
    manager = compute.ComputeManager()
    # Of Nova's drivers, only the Ironic driver supports power-update events.
    manager.driver.power_update_event = lambda instance, state: log('power', state=state)
    watched(manager)
    endpoints = [manager, *manager.additional_endpoints]
    servers = []
    for topic in options.topics:
        target = messaging.Target(topic=topic, server=options.host)
        servers.append(rpc.get_server(target, endpoints, base.NovaObjectSerializer()))
        servers[-1].start()
    for waiter in options.wait:
        threading.Thread(target=wait_for, args=(manager, *waiter), daemon=True).start()
    log('ready')
    while True:
        time.sleep(0.2)


if __name__ == '__main__':
    main()
