"""Quoting that lets users' homes have any name: Parsl puts paths into command lines and job scripts as they are."""

import re
import shlex
from typing import Any

from parsl.launchers.base import Launcher

_UNSAFE = re.compile(r"[\\'\"$`\n]")
_OUTPUT = re.compile(r"\$\{(?:submit_script_dir\}/\S+|job_std(?:out|err)_path\})")


def quoted(text: str) -> str:
    """Return the text as one word for bash, also in the here-documents that Parsl's launchers put commands into.

    Quotes alone protect nothing there, so characters that have a meaning are written by their numbers.
    """
    if _UNSAFE.search(text):
        return "$'" + _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text) + "'"
    return shlex.quote(text)


def is_plain(path: str) -> bool:
    """Return whether no shell would see anything special in the path."""
    return shlex.quote(path) == path


def literal(text: str) -> str:
    """Return text of our own for a launch command.

    Parsl formats the command twice; the text comes out of that as it was before.
    """
    return text.replace("{", "{{{{").replace("}", "}}}}")


class AnyFolder:
    """A mixin that goes in front of Parsl's providers for batch schedulers."""

    def _write_submit_script(self, template: str, script_filename: str, job_name: str, configs: dict[str, Any]) -> None:
        """Put quotes around the output's paths, as the schedulers take them in the lines at the head of a script."""
        if not is_plain(script_filename):
            template = _OUTPUT.sub(r'"\g<0>"', template)
            paths = [name for name in configs if name.endswith(("_path", "_dir"))]
            configs = {**configs, **{name: self._in_quotes(configs[name]) for name in paths}}
        super()._write_submit_script(template, script_filename, job_name, configs)  # type: ignore[misc]

    def _in_quotes(self, path: str) -> str:
        return path.replace("\\", "\\\\").replace('"', '\\"')


class InWorkingFolder(Launcher):  # type: ignore[misc]  # Parsl ships no types
    """A launcher whose own script is put where the job starts, not into a folder whose path needs quotes."""

    def __init__(self, launcher: Launcher) -> None:
        super().__init__(launcher.debug)
        self.launcher = launcher

    def __call__(self, command: str, tasks_per_node: int, nodes_per_block: int, script_dir: str = "") -> str:
        """Return the launcher's command, for a script in the folder where the job starts."""
        return str(self.launcher(command, tasks_per_node, nodes_per_block, ""))
