"""More time for the limits of our own programs: a machine that is busy with other tests isn't what they are there for.

A test of a limit sets that one itself.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterable, Iterator

import pytest

SECONDS = 180.0
"""What each limit becomes."""

BROKER = (
    "twinlock_broker.audit.WRITE_LIMIT",
    "twinlock_common.amqp.link.OPEN_LIMIT",
    "twinlock_broker.compute.heartbeat._CONFIRM_LIMIT",
    "twinlock_broker.compute.notices._ATTEMPT_LIMIT",
    "twinlock_broker.config.lock.PATIENCE",
    "twinlock_broker.control.exporter._LIMIT",
    "twinlock_broker.control.identification._LOOK_UP_LIMIT",
    "twinlock_broker.control.identification._START_LIMIT",
    "twinlock_broker.control.orders._LOOK_UP_LIMIT",
    "twinlock_broker.endpoints.launcher.OPEN_LIMIT",
    "twinlock_broker.endpoints.output.FINISH_LIMIT",
    "twinlock_broker.endpoints.readers._ANSWER_LIMIT",
    "twinlock_broker.endpoints.registry.SETTLED_AFTER",
    "twinlock_broker.endpoints.registry.SETTLED_AFTER_LOG",
    "twinlock_broker.endpoints.pipeline.RENDER_LIMIT",
    "twinlock_broker.identity.external.SECONDS",
    "twinlock_broker.identity.resolver.LOOK_UP_LIMIT",
    "twinlock_broker.identity.resolver.MAP_LIMIT",
    "twinlock_broker.identity.watch.READ_LIMIT",
    "twinlock_broker.trace.endpoint_log.LIMIT",
    "twinlock_broker.trace.live.LIMIT",
    "twinlock_common.rendering.template.MAX_SECONDS",
)
"""The broker's, as modules with the name of a number of seconds."""

RENDERING = (
    "twinlock_broker.endpoints.pipeline.RENDER_LIMIT",
    "twinlock_common.rendering.template.MAX_SECONDS",
)
"""Those of rendering alone, in the same form: a whole site's other limits are among what is tested."""

CHECK = (
    "twinlock_broker.checks.loader.LIMIT",
    "twinlock_broker.commands.policy._LIMIT",
    "twinlock_broker.identity.external.SECONDS",
    "twinlock_common.rendering.template.MAX_SECONDS",
)
"""Those of `twinlock check`, in the same form."""

SERVICE = (
    "twinlock_common.amqp.link.OPEN_LIMIT",
    "twinlock_service.rabbitmq.port_forwarding.CONNECT_SECONDS",
    "twinlock_service.rabbitmq.private_node.START_SECONDS",
    "twinlock_service.serve.CONNECT_SECONDS",
)
"""The service's, in the same form."""


@contextlib.contextmanager
def patient(limits: Iterable[str]) -> Iterator[None]:
    """These limits are so in this process, while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        for limit in limits:
            module, _, name = limit.rpartition(".")
            patch.setattr(importlib.import_module(module), name, SECONDS)
        yield


def patient_program(package: str, limits: Iterable[str]) -> list[str]:
    """`python -m package` with these limits, as any account can start it: not every one may read the tests."""
    names = [limit.rpartition(".")[::2] for limit in limits]
    code = (
        "import importlib, runpy\n"
        f"for module, name in {names}:\n"
        f"    setattr(importlib.import_module(module), name, {SECONDS})\n"
        f"runpy.run_module({package!r}, run_name='__main__', alter_sys=True)\n"
    )
    return [sys.executable, "-c", code]
