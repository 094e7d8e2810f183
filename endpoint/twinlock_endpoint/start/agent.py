"""The start of the official agent's endpoint in place of ours, where the spawner's policy names it.

The agent's own manager sets the site's environment variables and makes the folder before it executes the agent.
"""

import os
from pathlib import Path
from typing import NoReturn

from twinlock_common import document

from twinlock_endpoint.errors import FolderError
from twinlock_endpoint.home import obstacles
from twinlock_endpoint.start import environment, probe


def execute(agent: Path, name: str, told: document.Document, raw: bytes) -> NoReturn:
    """Become the agent at that path, as the endpoint with this name and document; `raw` is the document's text.

    Raises:
        ConfigError: the agent can't be executed, or not with the document's variables.
        FolderError: the endpoint's folder can't be made.
    """
    variables = environment.added(told.environment)
    path = variables.get(b"PATH") or os.defpath.encode()
    variables[b"PATH"] = os.fsencode(agent.parent) + b":" + path  # its engine's programs are looked for there
    python = _interpreter(agent)
    if python is not None:
        probe.check([python], "pass", variables, told.environment)
    os.umask(0o077)
    home = os.fsdecode(variables[b"HOME"])
    base = os.fsdecode(variables.get(b"GLOBUS_COMPUTE_USER_DIR") or b"") or f"{home}/.globus_compute"
    _make(Path(base, name))
    argv = [str(agent), "_start-user-endpoint", name]
    environment.execute("The official agent", argv, variables, document.without(raw, document.OURS))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(
            f"The endpoint's folder {folder} can't be made: {obstacles.explain(folder, error)}"
        ) from error


def _interpreter(program: Path) -> str | None:
    """Return the Python that a script names in its first line; None if that is another program."""
    try:
        with program.open("rb") as file:
            words = file.readline(4096).decode().removeprefix("#!").split()
    except (OSError, UnicodeDecodeError):  # executing it tells what is wrong with it
        return None
    return words[0] if words and Path(words[0]).name.startswith("python") else None
