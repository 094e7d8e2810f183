"""The endpoint's run in verified mode: the journal or the first signed task has the options; the rest is as always."""

import asyncio
import logging
import os
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

from twinlock_common.document import Document
from twinlock_common.offload import in_thread
from twinlock_common.rendering.errors import RenderingError
from twinlock_signed import delegation, errors, result_key
from twinlock_signed.delegation import Delegation
from twinlock_signed.replay.claims import open_claims

from twinlock_endpoint import engines
from twinlock_endpoint.config import configuration
from twinlock_endpoint.errors import ConfigError, FolderError, StartError
from twinlock_endpoint.home import folder, hooks, obstacles, output, pid_file
from twinlock_endpoint.job_origin import JobOrigin
from twinlock_endpoint.journal import journal
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.life import endpoint
from twinlock_endpoint.life.assembly import Setup
from twinlock_endpoint.manager.manager import Belief, Signer
from twinlock_endpoint.manager.start_report import StartReport
from twinlock_endpoint.start import run as plain
from twinlock_endpoint.start import verified_config
from twinlock_endpoint.start.arguments import Arguments
from twinlock_endpoint.tasks import outcomes
from twinlock_endpoint.tasks.intake import Refusal
from twinlock_endpoint.verified import queues
from twinlock_endpoint.verified.claimant import name_of
from twinlock_endpoint.verified.delegations import Delegations
from twinlock_endpoint.verified.gate import Gate
from twinlock_endpoint.verified.intake import SignedIntake, SignedTask
from twinlock_endpoint.verified.rendering import Renderer
from twinlock_endpoint.verified.seal import Sealer
from twinlock_endpoint.verified.site import Site

log = logging.getLogger(__name__)

_CLOSE_S = 5.0
_VERSION = re.compile(r"[\w.+-]{1,64}")


def run(given: Arguments, site: Site, told: Document, report: StartReport) -> int:
    """Run the endpoint and return its exit code. Raise `StartError` if it can't start."""
    title = plain.enter(given, told)
    home = folder.prepare(given.name, given.endpoint_id, configuration.defaults(), journal.has_unfinished)
    output.redirect(home, configuration.defaults()).rotate()  # one that gets no task has no other time for it
    output.begin(told.request)
    log.info("In verified mode, for %s", site.host.user)
    start = _Start(given, site, told, title, home)
    try:
        # Not asyncio.run, as in `endpoint.live`.
        return asyncio.new_event_loop().run_until_complete(start.live(report))
    finally:
        pid_file.remove(home)


class _Start:
    """What there is before the options. It is made before the process has a thread."""

    def __init__(self, given: Arguments, site: Site, told: Document, title: str, folder: Path) -> None:
        self._given = given
        self._site = site
        self._told = told
        self._title = title
        self._folder = folder
        self._zygote = engines.fork_zygote()
        self._renderer = Renderer()
        self._intake = _intake(site, told.endpoint_id, folder)
        self._belief = Belief(partial(queues.read, site.settings.amqp_hosts), site.settings.broker_uid)

    async def live(self, report: StartReport) -> int:
        """Wait for options, and be an endpoint with them. Return the exit code."""
        kept = Journal(await in_thread(lambda: journal.read(self._folder)))
        setup = await self._continue(kept)
        if setup is None:
            gate = Gate(self._told, self._intake, kept, self._take_options, report, self._belief)
            setup = await self._wait_at(gate)
            if setup is None:
                await kept.close(_CLOSE_S)
                return gate.code
        try:
            return await endpoint.life(setup, report, kept)
        finally:
            plain.tear_down(setup.config)

    async def _wait_at(self, gate: "Gate[Setup]") -> Setup | None:
        watch = asyncio.ensure_future(pid_file.watch(self._folder, gate.end_for_user))
        try:
            return await gate.wait()
        finally:
            watch.cancel()

    async def _continue(self, kept: Journal) -> Setup | None:
        """Return what goes on with the tasks of an endpoint before this one; None if it left none that may run."""
        useless: set[str] = set()
        for found in kept.unfinished.values():
            if found.task is None or found.result is not None:
                continue
            known = await self._intake.readmit(found.task)
            if isinstance(known, SignedTask) and known.signed.verified.digest not in useless:
                made = await self._take_options(known)
                if isinstance(made, Setup):
                    return made
                useless.add(known.signed.verified.digest)  # its options run commands: once is enough
        return None

    async def _take_options(self, task: SignedTask) -> Setup | Refusal:
        """Return what makes an endpoint with a task's options, or why they can't be used."""
        verified = task.signed.verified
        said = verified.delegation
        signer = Signer(verified.key.fingerprint, said.id)
        try:
            setup = await in_thread(partial(self._configure, said, signer))
        except RenderingError as error:
            log.error("The options can't be rendered: %s %s", error.text, error.detail)
            return Refusal(task.origin, outcomes.not_started(task.task.id, error.text), task.seal)
        except StartError as error:
            log.error("The options can't be used: %s", error)
            return Refusal(task.origin, outcomes.not_started(task.task.id, error), task.seal)
        log.info("The options of this endpoint were signed by key=%s delegation=%s", signer.key, signer.delegation)
        self._intake.options = delegation.options(said.user_endpoint_config)
        self._renderer.close()
        return setup

    def _configure(self, said: Delegation, signer: Signer) -> Setup:
        config, engine = verified_config.load(self._renderer.render(self._site, said), audited=self._told.audited)
        os.environ.update(_versions(said.user_runtime))
        folder.prepare(self._given.name, self._given.endpoint_id, config, journal.has_unfinished)
        written = output.redirect(self._folder, config)
        if config.endpoint_setup:
            hooks.run("endpoint_setup", config.endpoint_setup)
        engine.prepare(self._zygote)  # nothing after it may fail: it takes the zygote
        return Setup(
            title=self._title,
            folder=self._folder,
            document=self._told,
            config=config,
            engine=engine,
            output=written,
            intake=self._intake,
            belief=self._belief,
            signer=signer,
            origin=self._origin(signer),
        )

    def _origin(self, signer: Signer) -> JobOrigin | None:
        """Return what batch jobs say. They name the key, since nobody vouches for the person whom the broker names."""
        if self._told.job_person is None:
            return None
        return JobOrigin("key", signer.key, self._given.endpoint_id, self._given.manager_id)


def _intake(site: Site, endpoint_id: str, folder: Path) -> SignedIntake:
    """Return what decides about tasks. Raise `StartError` if a file of the account can't be used."""
    key_path, claims_path = site.home / result_key.PLACE[2:], site.settings.claims_of(site.account, site.home)
    path = key_path
    try:
        key = result_key.load_or_make(key_path)
        path = claims_path
        claims = open_claims(claims_path, site.home, time.time())
        path = folder
        claimant = name_of(folder)
    except errors.ConfigError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise FolderError(f"{path} can't be used: {obstacles.explain(path, error)}") from error
    return SignedIntake(site, Delegations(site, claims, endpoint_id, claimant), Sealer(site.settings.manager, key))


def _versions(runtime: dict[str, Any]) -> dict[str, str]:
    """Return the variables that tell tasks what the user runs, under the agent's names."""
    python = runtime.get("python")
    versions = {
        "GC_USER_PYTHON_VERSION": python.get("version") if isinstance(python, dict) else None,
        "GC_USER_SDK_VERSION": runtime.get("globus_compute_sdk_version"),
    }
    return {name: value for name, value in versions.items() if isinstance(value, str) and _VERSION.fullmatch(value)}
