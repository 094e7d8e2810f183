"""The status page: a person's own endpoints and tasks, an administrator's all, without secrets and anybody's data."""

from __future__ import annotations

import html
import string
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

from aiohttp import web

from twinlock_service.context import CONTEXT, Context
from twinlock_service.endpoints import Endpoint
from twinlock_service.page_login import HEADERS, form_page, visitor
from twinlock_service.users import Identity

SHOWN_TASKS = 50


async def show(request: web.Request) -> web.Response:
    """GET /; for somebody who isn't logged in the form to do so."""
    login = visitor(request)
    if login is None:
        return form_page()
    context, person = request.app[CONTEXT], login.identity
    sections = _of_all(context) if person.administrator else _of_one(context, person)
    template = string.Template(files(__package__).joinpath("page.html").read_text())
    text = template.substitute(
        visitor=html.escape(f"{person.username}{' (administrator)' if person.administrator else ''}"),
        sections="\n".join(f"<h2>{html.escape(title)}</h2>\n{content}" for title, content in sections),
    )
    return web.Response(text=text, content_type="text/html", headers=HEADERS)


def _of_all(context: Context) -> Iterator[tuple[str, str]]:
    endpoints = context.endpoints.all()
    yield "Endpoints", _endpoints(context, endpoints)
    owned = Counter(each.owner for each in endpoints)
    rows = ((_name(context, owner), count) for owner, count in owned.most_common())
    yield "Users", _table(("user", "endpoints"), rows)
    yield "Tasks", _tasks(context, None)


def _of_one(context: Context, person: Identity) -> Iterator[tuple[str, str]]:
    own = [each for owner in sorted(person.ids) for each in context.endpoints.owned_by(owner)]
    yield "Your endpoints", _endpoints(context, own)
    inviting = [each for each in context.endpoints.inviting(person) if each.owner not in person.ids]
    if inviting:
        warning = "<p>Their owners have named you as an administrator. Nobody has checked what they are.</p>\n"
        yield "Endpoints of others", warning + _endpoints(context, inviting)
    yield "Your tasks", _tasks(context, person.id)


def _endpoints(context: Context, endpoints: Iterable[Endpoint]) -> str:
    rows = (
        (each.id, each.kind, each.name, _name(context, each.owner), "online" if each.online else "offline")
        for each in endpoints
    )
    return _table(("uuid", "kind", "name", "owner", "status"), rows)


def _tasks(context: Context, owner: str | None) -> str:
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(context.tasks.counts(owner).items()))
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
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"
