"""`twinlock-endpoint NAME`: a user endpoint, started by the spawner with a document on standard input.

With `--agent PROGRAM` it is the official agent's endpoint instead. With `--verified FILE` it runs only what its user
has signed. `--check` starts none, see `check`.

Little is imported here: where the document has environment variables, the program executes itself a second time.
"""

import logging
import os
import sys

from twinlock_common import document
from twinlock_common.document import DocumentError

from twinlock_endpoint.errors import StartError
from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.start import agent, arguments, environment
from twinlock_endpoint.worker import main_module

log = logging.getLogger(__name__)


def main() -> None:
    """Run the endpoint and end the process.

    It ends by os._exit: when the endpoint has ended in order, a thread of a task or of Parsl that hangs must not keep
    it alive.
    """
    main_module.replace()
    # What libraries log or warn about before the log is open would mix with the one reason that the user sees.
    logging.basicConfig(handlers=[logging.NullHandler()])
    logging.captureWarnings(True)
    code = _run(StartReport())
    logging.shutdown()
    os._exit(code)


def _run(report: StartReport) -> int:
    try:
        return _endpoint(report)
    except (StartError, DocumentError) as error:
        log.error("%s", error)
        report.fail(str(error))
        return error.exit_code
    except Exception as error:
        log.exception("Unexpected")
        report.fail(f"The endpoint failed unexpectedly ({type(error).__name__}: {error}).")
        return os.EX_SOFTWARE


def _endpoint(report: StartReport) -> int:
    if sys.argv[-1:] == ["--check"]:
        from twinlock_endpoint.start import check

        return check.answer(arguments.parse_check(sys.argv))
    given = arguments.parse(sys.argv)
    if given.verified is not None:
        from twinlock_endpoint.start import verified

        return verified.run(given, report)
    told = _told(given)
    from twinlock_endpoint.start import run

    return run.run(given, told, report)


def _told(given: arguments.Arguments) -> document.Document:
    """Return the document, in a process that has the document's environment variables.

    A process that lacks them executes this program again with them, or the agent's in its place.
    """
    raw = sys.stdin.buffer.read()
    told = arguments.check(given, document.parse(raw))
    if given.agent is not None:
        agent.execute(given.agent, given.name, told, raw)
    environment.enter(told.environment, raw)
    return told


if __name__ == "__main__":
    main()
