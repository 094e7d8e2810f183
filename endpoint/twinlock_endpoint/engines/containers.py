"""The command that starts workers inside a container."""

from dataclasses import dataclass
from pathlib import Path

from twinlock_common.keys import nearest

from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.htex.any_folder import literal, quoted

_DOCKER = ("docker", "podman", "podman-hpc")
_APPTAINER = ("apptainer", "singularity")
_OWN_CONTAINERS = ("AWSProvider", "AzureProvider", "GoogleCloudProvider", "KubernetesProvider")
TYPES = (*_DOCKER, *_APPTAINER, "custom")


@dataclass(frozen=True, slots=True)
class Container:
    """`container_type`, `container_uri` and `container_cmd_options` of an engine."""

    type: str | None = None
    """One of `TYPES`; None if workers run in no container."""
    uri: str | None = None
    """The image."""
    options: str = ""
    """Words for the container's command; of a custom container the command itself."""

    def __post_init__(self) -> None:
        if self.type is not None and self.type not in TYPES:
            raise ConfigError(f"The container type {self.type!r} is unknown; {nearest(self.type, TYPES)}")
        if self.type == "custom" and not self.options:
            raise ConfigError("A custom container needs 'container_cmd_options', the command around the worker's.")
        if self.type not in (None, "custom") and not self.uri:
            raise ConfigError(f"A {self.type} container needs 'container_uri', the image.")

    def fits(self, provider: str) -> None:
        """Raise `ConfigError` if the provider of that name brings containers of its own."""
        if self.type and provider in _OWN_CONTAINERS:
            raise ConfigError(f"'container_type' can't be used with {provider}, which has an image of its own.")

    def wrap(self, command: str, folder: Path) -> str:
        """Return the worker's launch command inside this container.

        `folder` is the endpoint's, which workers write to.
        """
        options, uri, shared = literal(self.options), literal(self.uri or ""), literal(quoted(str(folder)))
        if self.type in _DOCKER:
            return f"{self.type} run {options} -v {shared}:{shared} -t {uri} {command}"
        if self.type in _APPTAINER:
            return f"{self.type} run {options} {uri} {command}"
        if self.type == "custom":
            placed = options.replace(literal("{EXECUTOR_RUNDIR}"), shared)
            return placed.replace(literal("{EXECUTOR_LAUNCH_CMD}"), command)
        return command
