"""The process that renders: users choose how often a template's loops run, and only a process can be stopped then.

It reads requests from its stdin, one a line (JSON), and answers each with a line, until its stdin ends. It gets no
credentials.
"""

import json
import resource
import signal
import sys

from twinlock_common.rendering import request_line, template
from twinlock_common.rendering.configuration import configure
from twinlock_common.rendering.errors import RenderingError

MAX_MEMORY = 512 << 20
"""Bytes of address space; the process itself, warm, has about a tenth of it in use."""


def main() -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # who is gone needs no answer, and their log no traceback
    for line in sys.stdin:
        _limit_time()
        print(json.dumps(_answer(line)), flush=True)


def _limit_time() -> None:
    """Limit the CPU time: who asked ends a rendering that takes too long; if they are gone, the kernel does."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + 2 * template.MAX_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _answer(line: str) -> dict[str, str]:
    try:
        return {"config": configure(request_line.load(line))}
    except RenderingError as error:
        return {"error": error.text, "detail": error.detail}
    except (MemoryError, RecursionError):
        return {"error": "These options need too much memory to be rendered. Shorten user_endpoint_config"}


if __name__ == "__main__":
    main()
