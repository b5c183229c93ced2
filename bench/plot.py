"""The grid as a picture: events per second and CPU per event, with one bar for each implementation."""

from __future__ import annotations

import statistics


def grid(runs, path):
    """Draw the picture.

    :param runs: as the scenario ``grid`` returns them
    :param path: file of the picture; its extension selects the format
    """
    # NOTE: imported here, so that only this command needs matplotlib.
    from matplotlib import figure

    cases = sorted({(run['batch'], run['concurrency']) for run in runs})
    names = sorted({run['name'] for run in runs})
    drawn = figure.Figure(figsize=(10, 4), layout='constrained')
    panels = (
        ('rate', 'events per second'),
        ('router', 'CPU of api and resolver, ms per event'),
        ('p50', 'p50, ms'),
    )
    for axes, (member, title) in zip(drawn.subplots(1, len(panels)), panels, strict=True):
        for number, name in enumerate(names):
            heights = [
                statistics.median(
                    run[member]
                    for run in runs
                    if run['name'] == name and (run['batch'], run['concurrency']) == case
                )
                for case in cases
            ]
            places = [position + number * 0.8 / len(names) for position in range(len(cases))]
            axes.bar(places, heights, width=0.8 / len(names), label=name)
        axes.set_yscale('log')
        axes.set_title(title)
        axes.set_xticks([position + 0.4 - 0.4 / len(names) for position in range(len(cases))])
        axes.set_xticklabels([f'{batch} x {concurrency}' for batch, concurrency in cases], rotation=45)
    axes.legend()
    drawn.savefig(path)
