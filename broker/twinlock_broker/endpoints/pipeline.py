"""The steps of a start command, from the checked message to the request for the spawner. Each step is a function."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twinlock_common.account import Account
from twinlock_common.offload import Offload
from twinlock_common.rendering.configuration import Request
from twinlock_common.rendering.reserved import Reserved
from twinlock_wire import wire

from twinlock_broker import metrics
from twinlock_broker.audit import AuditLog
from twinlock_broker.compute.command import Credentials, StartCommand
from twinlock_broker.config.folder import Folder, Site
from twinlock_broker.errors import CommandError, at_stage
from twinlock_broker.identity import account
from twinlock_broker.identity.mapping import Match
from twinlock_broker.identity.resolver import Resolver
from twinlock_broker.limited import limited
from twinlock_broker.rendering.document import Document
from twinlock_broker.rendering.renderer import Renderer

RENDER_LIMIT = 12.0
"""Seconds for reading the site's files and rendering the template."""

_ANY = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A command that has passed all checks: which program is started for whom, and what it is given."""

    name: str
    """The endpoint's name, ``uep.MANAGER.ENDPOINT`` with both uuids."""
    user: str
    """The account that it is to run under."""
    program: str
    """A name of the spawner's policy."""
    credentials: Credentials
    """The endpoint's uuid and queues."""
    document: Document
    """The start document."""
    command: str = ""
    """The command's id; empty for one that an earlier version of the broker wrote down."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The user's options, as the command had them."""

    @property
    def id(self) -> str:
        """The user endpoint's uuid."""
        return self.credentials.endpoint_id


class StartPipeline:
    """The steps for one manager endpoint.

    With an `audit`, nothing is started while that can't be written. With `marks_jobs` batch jobs name their person.
    """

    def __init__(
        self, folder: Folder, program: str, resolver: Resolver, audit: AuditLog | None, *, marks_jobs: bool = True
    ) -> None:
        self._folder = folder
        self._program = program
        self._resolver = resolver
        self._audit = audit
        self._marks_jobs = marks_jobs
        self._renders = Offload("render", 2)
        self._renderer = Renderer()

    def close(self) -> None:
        """End the idle rendering processes."""
        self._renderer.close()

    async def prepare(self, command: StartCommand) -> StartRequest:
        """Take all steps in their order and return the request. Raise `CommandError`."""
        if self._audit is not None and not await self._audit.probe():
            raise CommandError(
                "This endpoint can't write its audit log, so it runs nothing. Tell the endpoint's administrator"
            )
        with at_stage("identity mapping", command.options), metrics.MAPPING.time():
            match, local = await self._resolver.resolve(command.identities)
            check_name(local.name)
        doing = "rendering the endpoint's template"
        with at_stage("rendering", command.options, local.name), metrics.RENDERING.time():
            return await limited(self._renders, RENDER_LIMIT, doing, lambda: self._render(command, match, local))

    def _render(self, command: StartCommand, match: Match, local: Account) -> StartRequest:
        """Take the steps that read the site's files; off the loop, since these may lie anywhere."""
        site = self._folder.read_site()
        environment = site.environment | command.environment
        config = self._config(command, site, match, local)
        allowed = self._folder.settings["allowed_functions"]
        person = command.name_of(match.identity) if self._marks_jobs else None
        document = Document(command.credentials.amqp, config, match, allowed, environment, person)
        return StartRequest(
            command.name, local.name, self._program, command.credentials, document, command.id, command.options
        )

    def _config(self, command: StartCommand, site: Site, match: Match, local: Account) -> str:
        own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": local.home, "USER": local.name}
        reserved = Reserved(
            parent_config=self._folder.parent_config,
            runtime=command.runtime,
            account=local,
            identity=match.identity,
            environment=own | site.environment | command.environment,
        )
        path = self._folder.template_path
        request = Request(site.template, path.parent, site.schema, command.options, reserved, str(path))
        return self._renderer.render(request)


def check_name(user: str) -> None:
    """Raise `CommandError` for an account whose name the spawner's protocol doesn't carry."""
    try:
        wire.check(wire.Child(_ANY, 0, user, f"uep.{_ANY}.{_ANY}", None))
    except wire.WireError as error:
        raise CommandError(
            f"The account {account.shown(user)} has a name that can't be used here. "
            "Ask the endpoint's administrator for another"
        ) from error
