"""The start in verified mode: root's file says what the start document says else, but for the queues."""

import sys

from twinlock_common import document
from twinlock_common.document import Document

from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.start import arguments, environment
from twinlock_endpoint.verified import site
from twinlock_endpoint.verified.document import believed
from twinlock_endpoint.verified.site import Site


def run(given: arguments.Arguments, report: StartReport) -> int:
    """Run the endpoint and return its exit code. Raise what `_told` does, and `StartError` if it can't start."""
    here, told = _told(given)
    from twinlock_endpoint.start import verified_run

    return verified_run.run(given, here, told, report)


def _told(given: arguments.Arguments) -> tuple[Site, Document]:
    """Return what root says and what is believed of the document, in a process that has root's environment variables.

    A process that lacks them executes this program again with them, and isolated (``python -I``), so that neither
    variables nor the working folder have a say in which modules are loaded.

    Raises:
        StartError: a file of root's can't be used.
        DocumentError: the document can't, or names queues that root doesn't allow.
    """
    assert given.verified is not None
    environment.isolate()
    here = site.load(given.verified)
    variables = here.read_environment()
    raw = sys.stdin.buffer.read()
    said = arguments.check(given, document.parse(raw))
    environment.enter(variables, raw)
    return here, believed(said, here, variables | {"GLOBUS_COMPUTE_ENDPOINT_NAME": given.name})
