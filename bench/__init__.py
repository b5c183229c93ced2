"""What we claim about speed, as commands; nothing of the service imports any of it.

``load`` posts and checks every answer, ``site`` is what it is posted to, ``machine``
says what that cost.
"""

# NOTE: before any library, which would else load green threads.
import external_events_router as external_events_router
