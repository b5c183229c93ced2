"""First steps of every command: read and check the configuration, set up logging, report errors."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import functools
import importlib.metadata
import logging
import math
import os
import sys

from oslo_config import cfg
from oslo_log import log
import oslo_messaging as messaging

from external_events_router import conf as router_conf
from external_events_router import exceptions
from external_events_router.conf import database
from external_events_router.conf import opts
from external_events_router.messaging import rpc
from external_events_router.process import config_files
from external_events_router.process import log_lines
from external_events_router.process import memory
from external_events_router.process import printable
from external_events_router.process import report

LOG = logging.getLogger(__name__)

#: Determines the name of the configuration file, ``external-events-router.conf``, and of its
#: folders: ``~/.external-events-router``, ``~``, ``/etc/external-events-router``, ``/etc``.
PROJECT = 'external-events-router'

#: Errors for a value with a "$" that is not followed by the name of an option.
_SUBSTITUTION = (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError)


def version() -> str:
    """Return the version of the installed release."""
    return importlib.metadata.version(PROJECT)


def load(prog: str, argv: Sequence[str] | None = None, *, cli_opts: Sequence[cfg.Opt] = ()) -> cfg.ConfigOpts:
    """Read the command line and the configuration, and set up logging.

    :param prog: name of the command, for its usage text and log
    :param argv: arguments; None: the arguments of this process
    :param cli_opts: options only of this command
    :returns: ``cfg.CONF``, with all options of the service registered
    :raises ConfigurationError: a value or a file is not valid
    """
    conf = cfg.CONF
    _parse(conf, prog, argv, cli_opts)
    set_up_log(conf)
    memory.share_heaps()
    return conf


def read_again(prog: str, *, cli_opts: Sequence[cfg.Opt] = ()) -> cfg.ConfigOpts:
    """Read the files of this process into a new object, because oslo.config cannot restore previous values.

    :param prog: as for :func:`load`; ``cli_opts`` likewise
    :raises ConfigurationError: a value or a file is not valid
    """
    fresh = cfg.ConfigOpts()
    _parse(fresh, prog, None, cli_opts)
    return fresh


def mutate(
    conf: cfg.ConfigOpts,
    prog: str,
    *,
    cli_opts: Sequence[cfg.Opt] = (),
    also: Callable[[cfg.ConfigOpts], object] = lambda fresh: None,
) -> str | None:
    """Read the configuration files again, and change the options that can change while a service runs.

    :param prog: as for :func:`load`; ``cli_opts`` likewise
    :param also: a further check; raises ``ConfigurationError``
    :returns: why the files are not valid, in which case nothing has changed; None: they are
    """
    try:
        also(read_again(prog, cli_opts=cli_opts))
        conf.mutate_config_files()
    except (exceptions.RouterError, cfg.Error, OSError, ValueError) as exc:
        return reason_of(exc)
    return None


def _parse(conf: cfg.ConfigOpts, prog: str, argv: Sequence[str] | None, cli_opts: Sequence[cfg.Opt]) -> None:
    opts.set_library_defaults()
    log.register_options(conf)
    router_conf.register_all(conf)
    report.register_options(conf)
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


def announce(conf: cfg.ConfigOpts, prog: str) -> None:
    """Write the first lines of the log: version, configuration files, options that do not exist."""
    files = config_files.paths(conf)
    LOG.info('%s %s; configuration files: %s', prog, version(), ', '.join(files) or 'none')
    if not files:
        LOG.warning(
            'No configuration file exists, so all options have their defaults; searched: %s',
            ', '.join(config_files.searched(PROJECT, prog)),
        )
    config_files.warn_about_unknown(conf)


def set_up_log(conf: cfg.ConfigOpts) -> None:
    """Set up logging from the configuration. A forked process calls it again after a reload."""
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
    """Read every value once, so that an error is found at start and not under load.

    :raises ConfigurationError: with the name of the first option whose value is not valid
    """
    # NOTE: registers the option, with the default exchange of this service.
    rpc.set_defaults()
    messaging.TransportURL.parse(conf, 'fake://')
    _read(conf, 'DEFAULT', conf._opts['transport_url']['opt'])
    for group, group_opts in (*opts.list_opts(), *database.library_opts()):
        for opt in group_opts:
            _read(conf, group, opt)


def _read(conf: cfg.ConfigOpts, group: str, opt: cfg.Opt) -> None:
    name = opt.dest
    namespace = conf if group == 'DEFAULT' else conf[group]
    try:
        value = namespace[name]
    except (cfg.Error, ValueError) as exc:
        reason = config_files.explain(conf, group, opt, reason_of(exc))
        raise exceptions.ConfigurationError(option=f'[{group}] {name}', reason=reason) from exc
    # NOTE: no limit of an option excludes nan, and no time to wait is one.
    if isinstance(value, float) and not math.isfinite(value):
        raise exceptions.ConfigurationError(
            option=f'[{group}] {name}', reason=f'{value} is not a finite number'
        )


def reason_of(exc: Exception) -> str:
    """Return the reason why a value is not valid, without the value if it may be a secret."""
    if isinstance(exc, _SUBSTITUTION):
        # NOTE: the text of the error contains the characters after the "$", for example of a password.
        return 'a "$" refers to an option that does not exist; write "$$" for the character'
    return str(exc)


def entry_point(main: Callable[[], int | None]) -> Callable[[], int]:
    """Wrap a ``main`` for a console script: print its errors as one line and return status 1."""

    @functools.wraps(main)
    def run() -> int:
        prog = os.path.basename(sys.argv[0])
        try:
            return main() or 0
        except (exceptions.RouterError, cfg.Error) as exc:
            line = str(exc) if isinstance(exc, exceptions.RouterError) else f'configuration: {reason_of(exc)}'
            sys.stderr.write(printable.escape(f'{prog}: {" ".join(line.split())}') + '\n')
            return 1
        except KeyboardInterrupt:
            return 130

    return run
