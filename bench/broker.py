"""The number of messages that the broker received, by its own count.

``rabbitmqctl`` must have access to the broker: as root, or as the broker's user.
"""

from __future__ import annotations

import re
import shutil
import subprocess

#: Erlang expression for the number of messages that the node has received, over all protocols.
_QUESTION = (
    'lists:sum([maps:get(messages_received_total, Counters, 0) '
    '|| Counters <- maps:values(rabbit_global_counters:overview())]).'
)

#: Seconds that an answer may take: each command starts an Erlang machine.
TIMEOUT = 60.0


def taken_in():
    """The number of messages since the start of the broker; None: it is not available."""
    command = shutil.which('rabbitmqctl')
    if command is None:
        return None
    try:
        done = subprocess.run(
            [command, 'eval', _QUESTION], capture_output=True, text=True, check=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(r'\d+', done.stdout.strip())
    return int(found[0]) if found else None
