"""The commands. Each builds the objects of its process from the configuration, and runs them."""

import sys
from typing import Any
from typing import cast

# NOTE: some libraries import eventlet if it is installed, to check whether it is in use, and
# eventlet imports a DNS library. This takes 10 MiB in each process of the service, which never
# uses green threads. With this entry they treat it as not installed.
cast(dict[str, Any], sys.modules).setdefault('eventlet', None)
