"""The status page: a person's own endpoints and tasks, an administrator's all, without secrets and anybody's data."""

from __future__ import annotations

import html
import string
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files

from aiohttp import web

from twinlock_service.context import Context
from twinlock_service.page.login import HEADERS, form_page, visitor
from twinlock_service.request.access import every_endpoint
from twinlock_service.request.keys import CONTEXT
from twinlock_service.state.endpoints import Endpoint
from twinlock_service.state.tasks import COUNTED
from twinlock_service.users.directory import Identity

SHOWN_TASKS = 50

Section = tuple[str, str]
"""A heading, and HTML."""

Row = tuple[str, str, str, str, str]
_COLUMNS = ("uuid", "kind", "name", "owner", "status")


async def show(request: web.Request) -> web.Response:
    """Serve GET /: the status page, or the login form for somebody who isn't logged in."""
    login = visitor(request)
    if login is None:
        return form_page()
    context, person = request.app[CONTEXT], login.identity
    async with context.callers.turn(person.id, 0):
        sections = await (_of_all(context) if person.administrator else _of_one(context, person))
    template = string.Template(files(__package__).joinpath("status_page.html").read_text())
    text = template.substitute(
        visitor=html.escape(f"{person.username}{' (administrator)' if person.administrator else ''}"),
        sections="\n".join(f"<h2>{html.escape(title)}</h2>\n{content}" for title, content in sections),
    )
    return web.Response(text=text, content_type="text/html", headers=HEADERS)


async def _of_all(context: Context) -> list[Section]:
    rows = [_row(context, each) async for each in every_endpoint(context)]
    owned = Counter(owner for _, _, _, owner, _ in rows)
    return [
        ("Endpoints", _table(_COLUMNS, rows)),
        ("Users", _table(("user", "endpoints"), owned.most_common())),
        ("Tasks", _tasks(context, None)),
    ]


async def _of_one(context: Context, person: Identity) -> list[Section]:
    own: list[Row] = []
    inviting: list[Row] = []
    async for endpoint in every_endpoint(context):
        if endpoint.managed_by(person):
            (own if endpoint.owned_by(person) else inviting).append(_row(context, endpoint))
    warning = "<p>Their owners have named you as an administrator. Nobody has checked what they are.</p>\n"
    others = [("Endpoints of others", warning + _table(_COLUMNS, inviting))] if inviting else []
    return [("Your endpoints", _table(_COLUMNS, own)), *others, ("Your tasks", _tasks(context, person.id))]


def _row(context: Context, endpoint: Endpoint) -> Row:
    """Return what the page shows of an endpoint, which takes less memory than the endpoint itself."""
    return endpoint.id, endpoint.kind, endpoint.name, _name(context, endpoint.owner), endpoint.status


def _tasks(context: Context, owner: str | None) -> str:
    states = context.tasks.counts(owner)
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(states.items()))
    counts += f" of the newest {COUNTED:,}" if sum(states.values()) == COUNTED else ""
    rows = (
        (each.id, _name(context, each.owner), each.endpoint_id, each.status, _age(each.submitted), _age(each.completed))
        for each in context.tasks.latest(SHOWN_TASKS, owner)
    )
    table = _table(("uuid", "user", "endpoint", "status", "submitted", "ended"), rows)
    return f"<p>{html.escape(counts) or 'none yet'}</p>\n{table}"


def _name(context: Context, identity: str) -> str:
    known = context.users.by_id(identity)
    return known.username if known else identity


def _age(moment: float | None) -> str:
    return "" if moment is None else f"{max(0.0, time.time() - moment):.0f} s ago"


def _table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f'<th scope="col" role="columnheader">{html.escape(heading)}</th>' for heading in headings)
    body = "".join(f'<tr role="row">{_cells(headings, row)}</tr>\n' for row in rows)
    return f'<table class="list" role="table"><thead><tr role="row">{head}</tr></thead>\n<tbody>{body}</tbody></table>'


def _cells(headings: Sequence[str], row: Sequence[object]) -> str:
    """Return a row's cells. On a phone each is shown with its heading, which is why it names it."""
    titled = zip(headings, map(str, row), strict=True)
    return "".join(
        f'<td role="cell" data-title="{html.escape(title)}">{html.escape(text)}</td>' for title, text in titled
    )
