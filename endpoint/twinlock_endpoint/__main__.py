"""`twinlock-endpoint NAME`: a user endpoint, started by the spawner with a document on standard input."""

import logging
import os
import re
import sys
from pathlib import Path

from setproctitle import setproctitle

from twinlock_endpoint import commands, config, document, folder
from twinlock_endpoint.errors import ConfigError, DocumentError, StartError, UsageError
from twinlock_endpoint.report import StartReport

log = logging.getLogger(__name__)

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME = re.compile(rf"uep\.{_UUID}\.({_UUID})")
# What the peer's manager calls, the second one for users whose SDK is older than 4.10.
_PEER_COMMANDS = (["_start-user-endpoint"], ["start"])


def main() -> None:
    """Run the endpoint and end the process.

    By os._exit: when the endpoint has ended in order, a thread of a task or of Parsl that hangs must not keep it alive.
    """
    os.umask(0o077)
    # What libraries log or warn about before the log is open would mix with the one reason that the user sees.
    logging.basicConfig(handlers=[logging.NullHandler()])
    logging.captureWarnings(True)
    code = _run(StartReport())
    logging.shutdown()
    os._exit(code)


def _run(report: StartReport) -> int:
    try:
        return _endpoint(report)
    except StartError as error:
        log.error("%s", error)
        report.fail(str(error))
        return error.exit_code
    except Exception as error:
        log.exception("Unexpected")
        report.fail(f"The endpoint failed unexpectedly ({type(error).__name__}: {error}).")
        return os.EX_SOFTWARE


def _endpoint(report: StartReport) -> int:
    name, endpoint_id = _arguments(sys.argv)
    title = f"Globus Compute Endpoint ({endpoint_id}, {name})"
    setproctitle(title)  # before the environment grows: the title lives in the memory in front of it
    told = document.parse(sys.stdin.buffer.read())
    if told.endpoint_id.lower() != endpoint_id:
        raise DocumentError("The start document is for another endpoint than the one that was to be started.")
    os.environ.update(told.environment)
    _extend_path()
    settings = config.load(told.config)
    # Imported here: a bad document or configuration is told at once, without the half second that Parsl takes.
    from twinlock_endpoint import engines, life

    engine = engines.build(settings.engine)
    if (settings.high_assurance or told.audited) and not engine.encrypted:
        raise ConfigError("The engine of a high assurance endpoint needs 'encrypted: true'.")
    home = folder.prepare(name, endpoint_id, settings)
    output = folder.redirect_output(home, settings)
    engine.prepare()
    setup = life.Setup(title, home, told, settings, engine, output)
    if settings.endpoint_setup:
        commands.run("endpoint_setup", settings.endpoint_setup)
    try:
        return life.live(setup, report)
    finally:
        _tear_down(settings)


def _arguments(argv: list[str]) -> tuple[str, str]:
    "The endpoint's name and, from it, its id. The peer's manager has a word before it, and may have some after it."
    words = argv[2:] if argv[1:2] in _PEER_COMMANDS else argv[1:2] if len(argv) == 2 else []
    match = _NAME.fullmatch(words[0]) if words else None
    if match is None:
        raise UsageError(
            "usage: twinlock-endpoint uep.<manager endpoint's uuid>.<user endpoint's uuid>\n"
            "It is started by twinlock-spawner, with a document on standard input."
        )
    return match[0], match[1]


def _extend_path() -> None:
    "Batch jobs find Parsl's worker pool here, but only after everything that the site and the user put on PATH."
    before = os.environ.get("PATH") or os.defpath
    os.environ["PATH"] = os.pathsep.join((before, str(Path(sys.executable).parent)))


def _tear_down(settings: config.Config) -> None:
    if not settings.endpoint_teardown:
        return
    try:
        commands.run("endpoint_teardown", settings.endpoint_teardown)
    except StartError as error:
        log.error("%s", error)  # the endpoint has done its work all the same


if __name__ == "__main__":
    main()
