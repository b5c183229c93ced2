"""Server external events for OpenStack, delivered and acknowledged.

The path of a batch through the packages::

    POST -> api -> resolver -> agent (one per host) -> resolver (acks) -> api -> per-event codes
"""

import warnings

from oslo_service import backend

# NOTE: oslo.messaging imports oslo.service, which selects eventlet unless another backend was selected
# before. This package runs on native threads, and so must every program that imports it.
backend.register_backend_default_hook(lambda: backend.BackendType.THREADING)

# NOTE: libraries import eventlet only to check whether it is in use. Its warning at every start would not
# help an operator.
warnings.filterwarnings('ignore', message=r'\s*Eventlet is deprecated')
