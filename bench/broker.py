"""How many messages the broker took in, by its own count.

``rabbitmqctl`` has to be allowed to ask it: as root, or as the broker's user.
"""

from __future__ import annotations

import re
import shutil
import subprocess

#: Erlang that gives the number of messages that the node has taken in, over all protocols.
_QUESTION = (
    'lists:sum([maps:get(messages_received_total, Counters, 0) '
    '|| Counters <- maps:values(rabbit_global_counters:overview())]).'
)

#: Seconds that an answer may take: each one starts an Erlang machine.
TIMEOUT = 60.0


def taken_in():
    """Messages since the broker's start; None: it cannot be asked."""
    command = shutil.which('rabbitmqctl')
    if command is None:
        return None
    try:
        said = subprocess.run(
            [command, 'eval', _QUESTION], capture_output=True, text=True, check=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.fullmatch(r'\d+', said.stdout.strip())
    return int(found[0]) if found else None
