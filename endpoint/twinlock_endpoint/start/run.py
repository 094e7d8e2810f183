"""The endpoint's run after its start document was checked: configuration, folder, engine, life."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from setproctitle import setproctitle
from twinlock_common.document import Document

from twinlock_endpoint.config import configuration
from twinlock_endpoint.errors import ConfigError, StartError
from twinlock_endpoint.home import folder, hooks, output, pid_file
from twinlock_endpoint.job_origin import JobOrigin
from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.start.arguments import Arguments

if TYPE_CHECKING:
    from twinlock_endpoint.engines.base import Engine

log = logging.getLogger(__name__)


def run(arguments: Arguments, told: Document, report: StartReport) -> int:
    """Run the endpoint and return its exit code. Raise `StartError` if it can't start."""
    title = enter(arguments, told)
    settings, engine = load(told.config, audited=told.audited)
    from twinlock_endpoint.journal import journal
    from twinlock_endpoint.life import assembly, endpoint
    from twinlock_endpoint.manager.manager import Belief
    from twinlock_endpoint.tasks.intake import Plain

    home = folder.prepare(arguments.name, arguments.endpoint_id, settings, journal.has_unfinished)
    written = output.redirect(home, settings)
    output.begin(told.request)
    engine.prepare()
    intake = Plain(told.endpoint_id, settings.permitted(told.allowed_functions))
    origin = _origin(arguments, told)
    setup = assembly.Setup(title, home, told, settings, engine, written, intake, Belief(), origin=origin)
    if settings.endpoint_setup:
        hooks.run("endpoint_setup", settings.endpoint_setup)
    try:
        return endpoint.live(setup, report)
    finally:
        tear_down(settings)
        pid_file.remove(home)


def _origin(arguments: Arguments, told: Document) -> JobOrigin | None:
    if told.job_person is None:
        return None
    return JobOrigin("person", told.job_person, arguments.endpoint_id, arguments.manager_id)


def enter(arguments: Arguments, told: Document) -> str:
    """Set this process's mask, environment and title, and return the title."""
    os.umask(0o077)
    title = f"Globus Compute Endpoint ({arguments.endpoint_id}, {arguments.name})"
    setproctitle(title)  # before the environment grows: the title lives in the memory in front of it
    os.environ.update(told.environment)
    _extend_path()
    return title


def load(text: str, *, audited: bool) -> tuple[configuration.Config, "Engine"]:
    """Check a rendered configuration, and return it with its engine; nothing is started.

    With `audited` it is for an endpoint whose task events have to be audited.

    Raises:
        ConfigError: the configuration can't be used.
    """
    settings = configuration.load(text)
    # Imported here: a bad configuration is told at once, without the half second that Parsl takes.
    from twinlock_endpoint import engines

    engine = engines.build(settings.engine)
    if (settings.high_assurance or audited) and not engine.encrypted:
        raise ConfigError("The engine of a high assurance endpoint needs 'encrypted: true'.")
    return settings, engine


def _extend_path() -> None:
    """Put this Python's folder at the end of PATH, where batch jobs find Parsl's worker pool.

    Everything that the site and the user put on PATH goes before it.
    """
    before = os.environ.get("PATH") or os.defpath
    os.environ["PATH"] = os.pathsep.join((before, str(Path(sys.executable).parent)))


def tear_down(settings: configuration.Config) -> None:
    """Run the administrator's command after the endpoint's life, if there is one."""
    if not settings.endpoint_teardown:
        return
    try:
        hooks.run("endpoint_teardown", settings.endpoint_teardown)
    except StartError as error:
        log.error("%s", error)  # the endpoint has done its work all the same
