"""The agent on a compute host: a library, and a daemon that uses it.

::

    agent = Agent(transport, 'host-a')

    @agent.on('volume-extended')
    def extend(ctxt, event): ...

    agent.start()
    with agent.expect(server_uuid, [('network-vif-plugged', port_id)]) as expected:
        plug()
        expected.wait()

The agent receives the events of a host from the resolver, passes each to threads that wait for it
and to its handlers, and acknowledges it. It does not look up the hosts of servers, and does not
send events to other hosts.
"""

from external_events_router.agent.fleet import Fleet
from external_events_router.agent.handlers import ANY
from external_events_router.agent.handlers import Handler
from external_events_router.agent.handlers import Handlers
from external_events_router.agent.runtime import AgentRuntime
from external_events_router.agent.service import Agent
from external_events_router.agent.sources import FileSource
from external_events_router.agent.sources import NoSource
from external_events_router.agent.sources import Source
from external_events_router.agent.waiters import Expected
from external_events_router.events import Event
from external_events_router.events import Verdict
from external_events_router.exceptions import AgentStopped
from external_events_router.exceptions import NotHere
from external_events_router.exceptions import Refused
from external_events_router.exceptions import WaitTimeout

__all__ = [
    'ANY',
    'Agent',
    'AgentRuntime',
    'AgentStopped',
    'Event',
    'Expected',
    'FileSource',
    'Fleet',
    'Handler',
    'Handlers',
    'NoSource',
    'NotHere',
    'Refused',
    'Source',
    'Verdict',
    'WaitTimeout',
]
