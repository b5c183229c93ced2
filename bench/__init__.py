"""Commands that measure the performance of the service; the service imports none of them.

``load`` posts events and checks every answer, ``site`` is the measured deployment, and ``machine``
measures its use of the processor and memory.
"""

# NOTE: before any library, which would otherwise load green threads.
import external_events_router as external_events_router
