"""Draw the panels of the dashboard from a Prometheus server: ``python -m tools.figures URL --out FOLDER``.

Each row of the dashboard becomes one SVG. The documentation shows them, because a picture of Grafana would
need Grafana.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
import json
import pathlib
import re
import sys
import time
from typing import Any
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot
from matplotlib import ticker

from tools import panels

#: Panels beside each other, and inches of one.
COLUMNS, WIDTH, HEIGHT = 2, 5.2, 2.9

#: Points in time of a figure.
POINTS = 200

#: Seconds for one query.
TIMEOUT = 30

#: Series that a panel shows at most: those with the largest values.
MOST = 8

Series = tuple[str, Sequence[float], Sequence[float]]


def main(arguments: list[str]) -> int:
    """Draw all rows.

    :returns: the exit status
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('url', help='URL of Prometheus.')
    parser.add_argument('--minutes', type=float, default=10.0, help='Time to show. Default: 10.')
    parser.add_argument('--window', default='30s', help='Window of rates. Default: 30s.')
    parser.add_argument('--out', type=pathlib.Path, required=True, help='Folder of the figures.')
    options = parser.parse_args(arguments)
    end = time.time()
    for row in panels.ROWS:
        name = re.sub('[^a-z]+', '-', row.title.lower())
        found = [
            _ask(options.url, panel, options.window, end - options.minutes * 60, end) for panel in row.panels
        ]
        _draw(row, found, options.out / f'monitoring-{name}.svg')
    return 0


def _ask(url: str, panel: panels.Panel, window: str, start: float, end: float) -> list[Series]:
    """The series of a panel: name, minutes, values; those with the largest values first."""
    series: list[Series] = []
    for query in panel.queries:
        parameters = {
            'query': query.expression.replace(panels.RATE, window),
            'start': start,
            'end': end,
            'step': (end - start) / POINTS,
        }
        address = f'{url}/api/v1/query_range?{urllib.parse.urlencode(parameters)}'
        with urllib.request.urlopen(address, timeout=TIMEOUT) as response:
            for result in json.load(response)['data']['result']:
                points = [(float(at), float(value)) for at, value in result['values']]
                values = [value for _at, value in points]
                if any(values) or len(panel.queries) > 1:
                    name = _legend(query.legend, result['metric'])
                    series.append((name, [(at - start) / 60 for at, _value in points], values))
    return sorted(series, key=lambda one: -max(one[2]))[:MOST]


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r'\{\{(\w+)\}\}', lambda match: labels.get(match[1], ''), template)


def _draw(row: panels.Row, found: Sequence[Sequence[Series]], path: pathlib.Path) -> None:
    lines = -(-len(row.panels) // COLUMNS)
    figure, axes = pyplot.subplots(lines, COLUMNS, figsize=(COLUMNS * WIDTH, lines * HEIGHT), squeeze=False)
    flat = list(axes.flat)
    for panel, series, axis in zip(row.panels, found, flat, strict=False):
        _draw_panel(panel, series, axis)
    for axis in flat[len(row.panels) :]:
        axis.remove()
    figure.tight_layout()
    # NOTE: without the date, so that the file changes only with the data.
    figure.savefig(path, metadata={'Date': None})
    pyplot.close(figure)
    lines_of_text = path.read_text(encoding='utf-8').splitlines()
    path.write_text(''.join(f'{line.rstrip()}\n' for line in lines_of_text), encoding='utf-8')


def _draw_panel(panel: panels.Panel, series: Sequence[Series], axis: Any) -> None:
    axis.set_title(panel.title, fontsize=9, loc='left', fontweight='bold')
    for name, minutes, values in series:
        axis.plot(minutes, values, linewidth=1.2, label=name)
    axis.set_ylim(bottom=0)
    axis.set_xlabel('minutes', fontsize=7)
    axis.set_ylabel(_unit(panel.unit), fontsize=7)
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: f'{value:g}'))
    if panel.unit == panels.BYTES:
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _position: f'{value / 2**20:g}'))
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    if series:
        axis.legend(fontsize=6, loc='best')


def _unit(unit: str) -> str:
    return {
        panels.PER_SECOND: 'per second',
        panels.SECONDS: 'seconds',
        panels.SHARE: 'share',
        panels.BYTES: 'MiB',
        panels.STATE: '1: yes, 0: no',
    }.get(unit, 'number')


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
