"""The status page: endpoints, users and tasks, without secrets and without anybody's data."""

from __future__ import annotations

import html
import string
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files

from aiohttp import web

from twinlock_service.context import CONTEXT, Context

SHOWN_TASKS = 50


async def show(request: web.Request) -> web.Response:
    """GET /."""
    context = request.app[CONTEXT]
    template = string.Template(files(__package__).joinpath("page.html").read_text())
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(context.tasks.counts().items()))
    text = template.substitute(
        endpoints=_endpoints(context),
        users=_users(context),
        counts=html.escape(counts) or "none yet",
        tasks=_tasks(context),
    )
    return web.Response(text=text, content_type="text/html")


def _endpoints(context: Context) -> str:
    rows = (
        (each.id, each.kind, each.name, _name(context, each.owner), "online" if each.online else "offline")
        for each in context.endpoints.all()
    )
    return _table(("uuid", "kind", "name", "owner", "status"), rows)


def _users(context: Context) -> str:
    endpoints = context.endpoints.all()
    owned = Counter(each.owner for each in endpoints)
    return _table(("user", "endpoints"), ((_name(context, owner), count) for owner, count in owned.most_common()))


def _tasks(context: Context) -> str:
    rows = (
        (each.id, _name(context, each.owner), each.endpoint_id, each.status, _age(each.submitted), _age(each.completed))
        for each in context.tasks.latest(SHOWN_TASKS)
    )
    return _table(("uuid", "user", "endpoint", "status", "submitted", "ended"), rows)


def _name(context: Context, identity: str) -> str:
    known = context.users.by_id(identity)
    return known.username if known else identity


def _age(moment: float | None) -> str:
    return "" if moment is None else f"{max(0.0, time.time() - moment):.0f} s ago"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"
