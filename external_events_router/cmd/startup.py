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
import oslo_messaging as messaging

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router import rpc
from external_events_router.cmd import log_lines
from external_events_router.cmd import memory
from external_events_router.cmd import printable
from external_events_router.conf import database
from external_events_router.conf import opts

#: Names the configuration file, ``external-events-router.conf``, and its
#: folders: ``~/.external-events-router``, ``~``, ``/etc/external-events-router``, ``/etc``.
PROJECT = 'external-events-router'

#: Errors of a value with a "$" in it that is not followed by the name of an option.
_SUBSTITUTION = (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError)


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
    except UnicodeDecodeError as exc:
        raise exceptions.ConfigurationError(
            option='configuration', reason=f'a file is not UTF-8: {exc.reason}; save it as UTF-8'
        ) from exc
    except (cfg.Error, OSError, ValueError) as exc:
        raise exceptions.ConfigurationError(option='configuration', reason=reason_of(exc)) from exc
    set_up_log(conf)
    memory.share_heaps()
    return conf


def set_up_log(conf: cfg.ConfigOpts) -> None:
    """Log as the configuration says; again, in a process that was forked after it was read anew."""
    try:
        log.setup(conf, PROJECT, version())
    except OSError as exc:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] log_file, log_dir', reason=f'the log cannot be written: {exc}'
        ) from exc
    except log.LogConfigError as exc:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] log_config_append', reason=' '.join(str(exc).split())
        ) from exc
    except (cfg.Error, ValueError) as exc:
        raise exceptions.ConfigurationError(
            option='[DEFAULT] default_log_levels', reason=reason_of(exc)
        ) from exc
    log_lines.install()


def check(conf: cfg.ConfigOpts) -> None:
    """Read every value once, so that a bad one is found now and not under load.

    :raises ConfigurationError: naming the first option whose value is bad
    """
    # NOTE: registers the option, with our exchange.
    rpc.set_defaults()
    messaging.TransportURL.parse(conf, 'fake://')
    _read(conf, 'DEFAULT', 'transport_url')
    for group, group_opts in (*opts.list_opts(), *database.library_opts()):
        for opt in group_opts:
            _read(conf, group, opt.dest)


def _read(conf: cfg.ConfigOpts, group: str, name: str) -> None:
    namespace = conf if group == 'DEFAULT' else conf[group]
    try:
        namespace[name]
    except (cfg.Error, ValueError) as exc:
        raise exceptions.ConfigurationError(option=f'[{group}] {name}', reason=reason_of(exc)) from exc


def reason_of(exc: Exception) -> str:
    """What is wrong with a value, for an error; without the value where it may be a secret."""
    if isinstance(exc, _SUBSTITUTION):
        # NOTE: the error's own text has what follows the character, of a password say.
        return 'a "$" refers to an option that does not exist; write "$$" for the character'
    return str(exc)


def entry_point(main: Callable[[], int | None]) -> Callable[[], int]:
    """Make a console script of a ``main``: its errors become one line and status 1."""

    @functools.wraps(main)
    def run() -> int:
        prog = os.path.basename(sys.argv[0])
        try:
            return main() or 0
        except (exceptions.RouterError, cfg.Error) as exc:
            line = str(exc) if isinstance(exc, exceptions.RouterError) else f'configuration: {reason_of(exc)}'
            print(printable.escape(f'{prog}: {" ".join(line.split())}'), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130

    return run
