"""Another implementation of the resource, which is measured alternately with the service."""

from __future__ import annotations

import json
import pathlib
import random

from bench import answers
from bench import measure


def target(url, servers_file, pids, headers):
    """Make the target that the options of the command describe.

    :param servers_file: JSON: a list of servers that are on hosts, or an object with it as ``placed``
    :param pids: ``NAME=PID``, or ``NAME=FILE`` with pids in the file, for each group
    """
    servers = json.loads(pathlib.Path(servers_file).read_text())
    if isinstance(servers, dict):
        servers = servers['placed']
    groups = {}
    for text in pids:
        name, _, value = text.partition('=')
        found = [value] if value.isdigit() else pathlib.Path(value).read_text().split()
        groups[name] = [int(pid) for pid in found]
    return measure.Target(
        'other', url, answers.make(servers, random.Random(1)), lambda: groups, tuple(headers)
    )
