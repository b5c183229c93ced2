"""The commands: each puts the rooms together in a process of its own."""

import sys
from typing import Any
from typing import cast

# NOTE: libraries below us import eventlet where it is installed, to see whether it
# is in use, and a DNS library with it: 10 MiB for each of our processes, none of which
# has green threads. To them it is not installed.
cast(dict[str, Any], sys.modules).setdefault('eventlet', None)
