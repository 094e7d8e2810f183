"""The process that renders: users choose how often a template's loops run, and only a process can be stopped at that.

It reads a request a line (JSON) from its stdin and answers with a line, until its stdin ends. It gets no credentials.
"""

import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from twinlock_broker.errors import CommandError
from twinlock_broker.identity.account import Account
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering import options, places, rendered, template

MAX_MEMORY = 512 << 20
"""Bytes of address space; the process itself, warm, has about a tenth of it in use."""


def main() -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a broker that is gone needs no answer, and its log no traceback
    for line in sys.stdin:
        _limit_time()
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _limit_time() -> None:
    """The broker ends a rendering that takes too long; where the broker is gone, the kernel does."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + 2 * template.MAX_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"config": _config(request)}
    except CommandError as error:
        return {"error": error.text, "detail": error.detail}
    except (MemoryError, RecursionError):
        return {"error": "These options need too much memory to be rendered. Shorten user_endpoint_config"}


def _config(request: dict[str, Any]) -> str:
    known, chosen = request["reserved"], request["options"]
    by_user = chosen | {"user_runtime": known["runtime"]}  # a client may say anything of its runtime
    who: dict[str, Any] = {"account": Account(**known.pop("account")), "match": Match(**known.pop("match"))}
    options.check(chosen, request["schema"])
    reserved = template.Reserved(**known, **who)
    where = {"folder": Path(request["folder"]), "name": request["name"]}
    text = template.render(request["template"], chosen=chosen, reserved=reserved, **where)
    places.check(text, by_user)  # first, or a key that an option has brought in would be told as the template's fault
    rendered.check(text)
    return text


if __name__ == "__main__":
    main()
