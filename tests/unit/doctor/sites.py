"""Installations for the checks: ``cfg.CONF`` with other options, and files of it."""

from __future__ import annotations

import pathlib
from typing import Any

import fixtures

from external_events_router.db import migration
from external_events_router.doctor import base
from external_events_router.doctor import runner
from tests.functional import fixtures as configurations


class Site(fixtures.Fixture):
    """A site with a configuration of the test's own.

    :ivar site: for checks
    """

    def __init__(
        self,
        *,
        text: str = '',
        service: str = base.API,
        host: str | None = None,
        schema: bool = False,
        **overrides: Any,
    ) -> None:
        """:param text: content of a configuration file; empty: there is none
        :param host: of an agent
        :param schema: whether the database has its tables
        :param overrides: option to value, its group before two underscores
        """
        self._text = text
        self._service = service
        self._host = host
        self._schema = schema
        self._overrides = overrides

    def _setUp(self) -> None:
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.conf = self.useFixture(configurations.Configuration(**self._overrides)).conf
        if self._text:
            self.path = folder / 'router.conf'
            self.path.write_text(self._text)
            self.path.chmod(0o640)
            self.conf([f'--config-file={self.path}'], project='external-events-router')
        self.site = base.Site(self.conf, service=self._service, host=self._host)
        self.addCleanup(self.site.close)
        if self._schema:
            migration.upgrade(self.site.database())

    def run(self, check: base.Check) -> base.Result:
        """Run one check."""
        (report,) = runner.run([check], self.site)
        return report.result


def named(checks: Any, name: str) -> base.Check:
    """Return the check of a name."""
    (found,) = (check for check in checks if check.name == name)
    return found
