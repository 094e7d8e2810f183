"""Blocks of Parsl's workers: what a heartbeat says about them, and their end."""

import os
import signal
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any

from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.jobs.states import TERMINAL_STATES
from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider

from twinlock_endpoint.htex.executor import Executor
from twinlock_endpoint.htex.providers import forked

_GROUP_GRACE_S = 3.0


def figures(parsl: HighThroughputExecutor) -> dict[str, Any]:
    """Return managers, workers, tasks and scaling of an executor, named as the agent's heartbeat names them."""
    managers = parsl.connected_managers()
    provider = parsl.provider
    return {
        "managers": len(managers),
        "active_managers": sum(1 for manager in managers if manager["active"]),
        "total_workers": sum(manager["worker_count"] for manager in managers),
        "idle_workers": sum(max(0, manager["worker_count"] - manager["tasks"]) for manager in managers),
        "pending_tasks": parsl.outstanding() - sum(min(m["tasks"], m["worker_count"]) for m in managers),
        "outstanding_tasks": parsl.outstanding(),
        "total_tasks": parsl._task_counter,  # noqa: SLF001 - Parsl has no other count; in compat/executor.py
        "scaling_enabled": provider.max_blocks > 0,
        "mem_per_worker": parsl.mem_per_worker,
        "cores_per_worker": parsl.cores_per_worker,
        "prefetch_capacity": parsl.prefetch_capacity,
        "max_blocks": provider.max_blocks,
        "min_blocks": provider.min_blocks,
        "max_workers_per_node": parsl.max_workers_per_node,
        "nodes_per_block": provider.nodes_per_block,
        "node_info": _nodes(parsl, managers),
        "provider_type": type(provider).__name__,
        "queue": _first(provider, "queue", "partition"),
        "account": _first(provider, "account", "allocation", "project"),
    }


def _nodes(parsl: HighThroughputExecutor, managers: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the managers by the batch job that they run in."""
    packages = parsl.connected_managers_packages()
    nodes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for manager in managers:
        installed = packages.get(manager["manager"], {})
        node = {name: manager[name] for name in ("worker_count", "idle_duration", "parsl_version", "python_version")}
        node["endpoint_version"] = installed.get("twinlock") or installed.get("globus-compute-endpoint")
        node["sdk_version"] = installed.get("globus-compute-sdk")
        nodes[str(parsl.blocks_to_job_id.get(manager["block_id"]))].append(node)
    return nodes


def current(parsl: HighThroughputExecutor) -> list[str]:
    """Return the job of each block that hasn't ended: its id, or that of a process on this host."""
    statuses, jobs = parsl.status_facade.copy(), parsl.blocks_to_job_id.copy()  # the poller's thread changes them
    return [str(jobs[block]) for block, status in statuses.items() if block in jobs and not status.terminal]


def jobs(parsl: HighThroughputExecutor) -> list[str]:
    """Return the ids of the batch jobs of blocks that haven't ended."""
    return [] if isinstance(parsl.provider, LocalProvider) else current(parsl)


def _first(provider: ExecutionProvider, *names: str) -> str | None:
    return next((value for name in names if (value := getattr(provider, name, None))), None)


def cancel_rest(parsl: Executor) -> None:
    """Cancel the batch jobs that the poller left alone; it does so with a broken executor's.

    Those that aren't cancelled are noted as unwanted, also if the provider raises an error.
    """
    ended = {block for block, status in parsl.status_facade.items() if status.state in TERMINAL_STATES}
    jobs = [job for block, job in parsl.blocks_to_job_id.items() if block not in ended]
    if not jobs:
        return
    gone = [False] * len(jobs)
    try:
        gone = parsl.provider.cancel(jobs) or gone
    finally:
        parsl.submitted.unwant(job for job, is_gone in zip(jobs, gone, strict=True) if not is_gone)


def local_groups(provider: ExecutionProvider) -> list[int]:
    """Return the process groups of a local provider's blocks.

    Later it is too late: when a block's shell is gone, nothing tells its group.
    """
    if isinstance(provider, forked.LocalProvider):
        return provider.groups()
    if not isinstance(provider, LocalProvider):
        return []
    groups = []
    for job in provider.resources.values():
        with suppress(ProcessLookupError):
            groups.append(os.getpgid(job["remote_pid"]))
    return groups


def end_groups(groups: list[int]) -> None:
    """Wait until cancelled local blocks are gone, and kill those that aren't in time."""
    deadline = time.monotonic() + _GROUP_GRACE_S
    while any(_alive(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.02)
    for group in filter(_alive, groups):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
