"""Server external events for OpenStack, delivered and acknowledged.

The one way of a batch, room by room::

    POST -> api -> resolver -> agent (one per host) -> resolver (acks) -> api -> per-event codes
"""

import warnings

from oslo_service import backend

# NOTE: oslo.messaging imports oslo.service, which picks eventlet unless it was
# told otherwise before. We run on native threads, and so does whoever imports us.
backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)

# NOTE: libraries below us import eventlet only to see whether it is in use; its
# warning at every start would tell an operator about nothing of theirs or ours.
warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
