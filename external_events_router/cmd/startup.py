"""What every command does first: read the configuration, set up the log, or say in one line why not."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import functools
import importlib.metadata
import os
import sys

from oslo_config import cfg
from oslo_log import log

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.cmd import log_lines
from external_events_router.cmd import memory
from external_events_router.cmd import printable
from external_events_router.conf import database
from external_events_router.conf import opts

#: Names the configuration file, ``external-events-router.conf``, and its
#: folders: ``~/.external-events-router``, ``~``, ``/etc/external-events-router``, ``/etc``.
PROJECT = 'external-events-router'


def version() -> str:
    """The installed release."""
    return importlib.metadata.version(PROJECT)


def load(prog: str, argv: Sequence[str] | None = None, *, cli_opts: Sequence[cfg.Opt] = ()) -> cfg.ConfigOpts:
    """Read the command line and the configuration, and set up the log.

    :param prog: the command's name, for its usage text and log
    :param argv: the arguments; None: those of this process
    :param cli_opts: options of this command only
    :returns: ``cfg.CONF``, with every option of the service registered
    :raises ConfigurationError: a value or a file cannot be used
    """
    conf = cfg.CONF
    opts.set_library_defaults()
    log.register_options(conf)
    router_conf.register_all(conf)
    conf.register_cli_opts(cli_opts)
    try:
        conf(
            sys.argv[1:] if argv is None else list(argv),
            project=PROJECT,
            prog=prog,
            version=version(),
        )
        check(conf)
    except (cfg.Error, OSError) as exc:
        raise exceptions.ConfigurationError(option='configuration', reason=str(exc)) from exc
    set_up_log(conf)
    memory.share_heaps()
    return conf


def set_up_log(conf: cfg.ConfigOpts) -> None:
    """Log as the configuration says; again, in a process that was forked after it was read anew."""
    log.setup(conf, PROJECT, version())
    log_lines.install()


def check(conf: cfg.ConfigOpts) -> None:
    """Read every value once, so that a bad one is found now and not under load.

    :raises ConfigurationError: naming the first option whose value is bad
    """
    for group, group_opts in (*opts.list_opts(), *database.library_opts()):
        namespace = conf if group == 'DEFAULT' else conf[group]
        for opt in group_opts:
            try:
                namespace[opt.dest]
            except (cfg.Error, ValueError) as exc:
                raise exceptions.ConfigurationError(option=f'[{group}] {opt.name}', reason=str(exc)) from exc


def entry_point(main: Callable[[], int | None]) -> Callable[[], int]:
    """Make a console script of a ``main``: its errors become one line and status 1."""

    @functools.wraps(main)
    def run() -> int:
        prog = os.path.basename(sys.argv[0])
        try:
            return main() or 0
        except exceptions.RouterError as exc:
            print(printable.escape(f'{prog}: {" ".join(str(exc).split())}'), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130

    return run
