"""The command that starts workers inside a container."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from twinlock_endpoint.errors import ConfigError, nearest

_DOCKER = ("docker", "podman", "podman-hpc")
_APPTAINER = ("apptainer", "singularity")
TYPES = (*_DOCKER, *_APPTAINER, "custom")


@dataclass(frozen=True, slots=True)
class Container:
    """`container_type`, `container_uri` and `container_cmd_options` of an engine."""

    type: str | None = None
    uri: str | None = None
    options: str = ""

    def __post_init__(self) -> None:
        if self.type is not None and self.type not in TYPES:
            raise ConfigError(f"The container type {self.type!r} is unknown; {nearest(self.type, TYPES)}")
        if self.type == "custom" and not self.options:
            raise ConfigError("A custom container needs 'container_cmd_options', the command around the worker's.")
        if self.type not in (None, "custom") and not self.uri:
            raise ConfigError(f"A {self.type} container needs 'container_uri', the image.")

    def wrap(self, command: str, folder: Path) -> str:
        """The worker's launch command inside this container; `folder` is the endpoint's, which workers write to."""
        options, uri, shared = _literal(self.options), _literal(self.uri or ""), _literal(shlex.quote(str(folder)))
        if self.type in _DOCKER:
            return f"{self.type} run {options} -v {shared}:{shared} -t {uri} {command}"
        if self.type in _APPTAINER:
            return f"{self.type} run {options} {uri} {command}"
        if self.type == "custom":
            placed = options.replace(_literal("{EXECUTOR_RUNDIR}"), shared)
            return placed.replace(_literal("{EXECUTOR_LAUNCH_CMD}"), command)
        return command


def _literal(text: str) -> str:
    "Parsl formats a launch command twice; text from the configuration has to come out of that as it went in."
    return text.replace("{", "{{{{").replace("}", "}}}}")
