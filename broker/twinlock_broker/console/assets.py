"""The page's files: ours, and the plotting library, which is brought at build time and may be missing."""

import sys
from importlib.resources import files
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from twinlock_common.stylesheet import NAME, stylesheet

PLOTS = ("uPlot.esm.js", "uPlot.min.css")
"""The files of the plotting library that the page loads."""

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Content = tuple[bytes, str]
"""A file's bytes and type."""


def plots_folder() -> Path:
    """Return where packaging/console-assets puts the plotting library."""
    return Path(sys.prefix) / "share/twinlock-console"


def has_plots() -> bool:
    """Return whether it is there."""
    return all((plots_folder() / name).is_file() for name in PLOTS)


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve the files, by their names; index.html has the folder's name, too. They are read once."""
    found = {each.name: (each.read_bytes(), _type(each.name)) for each in (files(__package__) / "page").iterdir()}
    found[NAME] = stylesheet(), _type(NAME)
    if has_plots():
        found |= {name: ((plots_folder() / name).read_bytes(), _type(name)) for name in PLOTS}
    for name, content in found.items():
        router.add_get(f"/{name}", _serving(content))
    router.add_get("/", _serving(found["index.html"]))


def _type(name: str) -> str:
    return _TYPES[Path(name).suffix]


def _serving(content: Content) -> Handler:
    body, kind = content

    async def serve(_request: web.Request) -> web.Response:
        # Asked for again each time: another version of the page must not meet files of the former one.
        return web.Response(body=body, content_type=kind, charset="utf-8", headers={"Cache-Control": "no-cache"})

    return serve
