"""The REST calls about submissions, tasks and task groups."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web
from globus_compute_common import messagepack

from twinlock_service.errors import ApiError, Code
from twinlock_service.limits.chunks import TimeSlice
from twinlock_service.request.access import owned_task
from twinlock_service.request.keys import CALLER, CONTEXT, LOGIN
from twinlock_service.request.models import BatchStatus, Submission, read, uuid_in_path
from twinlock_service.state.tasks import Task
from twinlock_service.tasks.submission import submit

MAX_ANSWER = 32 * 1024 * 1024
"""Bytes of results in one answer."""


async def submit_tasks(request: web.Request) -> web.Response:
    """Serve POST /v3/endpoints/{endpoint}/submit: submit tasks."""
    endpoint = uuid_in_path(request, "endpoint")
    submission = await read(request, Submission)
    return web.json_response(await submit(request.app[CONTEXT], request[CALLER], endpoint, submission))


async def result_url(request: web.Request) -> web.Response:
    """Serve GET /v2/get_amqp_result_connection_url: return how the SDK reads results as they come."""
    context = request.app[CONTEXT]
    login = context.result_logins.of(request[LOGIN])
    await context.topology.user(login)
    # Should the token have ended meanwhile, and the login with it: recorded again, it is deleted again.
    context.result_logins.of(request[LOGIN])
    return web.json_response(context.topology.result_info(login))


async def show(request: web.Request) -> web.Response:
    """Serve GET /v2/tasks/{task}: describe a task, with its result if it has one."""
    task_id = uuid_in_path(request, "task")
    task = owned_task(request.app[CONTEXT], request[CALLER], task_id)
    if task is None:
        raise ApiError(404, Code.TASK_NOT_FOUND, f"Task {task_id} could not be resolved")
    return web.json_response(_document(task))


async def show_batch(request: web.Request) -> web.Response:
    """Serve POST /v2/batch_status: describe tasks; those that are not the caller's are left out."""
    context, caller = request.app[CONTEXT], request[CALLER]
    wanted = dict.fromkeys(str(each) for each in (await read(request, BatchStatus)).task_ids)
    found, size, time_slice = {}, 0, TimeSlice()
    for task_id in wanted:
        task = owned_task(context, caller, task_id)
        await time_slice.pause()
        if task is None:
            continue
        found[task.id] = _document(task)
        size += len(task.result or b"")
        if size > MAX_ANSWER and len(found) > 1:
            text = f"the results of these tasks have more than {MAX_ANSWER:,} bytes; ask for fewer tasks at once"
            raise ApiError(413, Code.REQUEST_MALFORMED, text)
    return web.json_response({"response": "batch", "results": found})


async def show_group(request: web.Request) -> web.Response:
    """Serve GET /v2/taskgroup/{group}: list the tasks of a group.

    Make the caller's result queue for the group, too: whoever asks means to wait for results.
    """
    context, caller = request.app[CONTEXT], request[CALLER]
    group = uuid_in_path(request, "group")
    if context.tasks.group_owner(group) != caller.id:
        raise ApiError(404, Code.TASK_GROUP_NOT_FOUND, f"you have no task group {group}")
    await context.topology.result_queue(caller.id, group)
    answer = json.dumps({"taskgroup_id": group, "create_websockets_queue": True, "tasks": []})
    tasks = []
    for page in context.tasks.group_pages(group):
        tasks.append(", ".join(json.dumps({"id": task}) for task in page))
        await asyncio.sleep(0)  # a long session has millions of tasks
    text = answer.removesuffix("]}") + ", ".join(tasks) + "]}"
    return web.Response(text=text, content_type="application/json")


def _document(task: Task) -> dict[str, Any]:
    document: dict[str, Any] = {"task_id": task.id, "status": task.status, "task_group_id": task.group_id}
    if task.result is None:
        return document
    result = messagepack.unpack(task.result)
    key = "exception" if result.is_error else "result"
    return {**document, key: result.data, "details": result.details, "completion_t": str(task.completed)}
