"""Casts to computes, off the wire, in a form that can be compared."""

import json

import kombu

from external_events_router.resolver.drivers.nova import cast_batches
from tests.unit.resolver.drivers.nova import test_objects


class Casts:
    """All casts to computes of a cell, off a queue that hears every host."""

    def __init__(self, url):
        self.connection = kombu.Connection(url.replace('rabbit://', 'pyamqp://', 1))
        channel = self.connection.channel()
        exchange = kombu.Exchange('nova', type='topic', durable=False)
        topics = [kombu.binding(exchange, routing_key=f'{topic}.#') for topic in ('compute', 'compute-alt')]
        self.queue = kombu.Queue('all-casts', bindings=topics, durable=False, channel=channel)
        self.queue.declare()

    def close(self):
        self.connection.release()

    def take(self):
        """The casts since the last call, in a form that can be compared."""
        found = []
        while (message := self.queue.get(no_ack=True)) is not None:
            inner = json.loads(json.loads(message.body)['oslo.message'])
            found.append((message.delivery_info['routing_key'], _comparable_cast(inner)))
        return found


def comparable(primitive):
    """A copy in which JSON within JSON and lists of changes can be compared."""
    same = test_objects.unordered(json.loads(json.dumps(primitive)))
    cache = same['nova_object.data']['info_cache']['nova_object.data']
    cache['network_info'] = cache['network_info'] and json.loads(cache['network_info'])
    return same


def _comparable_cast(message):
    """What of a cast has to be the same: not its ids, its time, and the order of sets.

    Events that only wake a waiter come first, and equal ``network-changed`` events are sent once.
    """
    arguments = message['args']
    last = {}
    for primitive in arguments['events']:
        event = primitive['nova_object.data']
        key = len(last)
        if event['name'] == 'network-changed':
            key = (event['instance_uuid'], event['tag'])
            last.pop(key, None)
        last[key] = test_objects.unordered(primitive)
    ordered = sorted(
        last.values(), key=lambda primitive: primitive['nova_object.data']['name'] not in cast_batches.WAKING
    )
    instances = [comparable(instance) for instance in arguments['instances']]
    context = {
        key: value
        for key, value in message.items()
        if key.startswith('_context_') and key.removeprefix('_context_') not in ITS_OWN
    }
    return {
        'method': message['method'],
        'version': message['version'],
        'events': ordered,
        'instances': sorted(instances, key=lambda instance: instance['nova_object.data']['uuid']),
        'context': context,
    }


#: Of a context: what differs from request to request, what we leave out, and the
#: roles, which are the callers' own here.
ITS_OWN = ('request_id', 'global_request_id', 'timestamp', 'remote_address', 'roles')
