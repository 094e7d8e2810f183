"""Which host names the service answers to.

A page of anybody's can have its own name point to this machine (DNS rebinding); the browser then takes the service for
a part of that page. What arrives under a foreign name is refused, whatever it asks for.
"""

from __future__ import annotations

import ipaddress
import socket

from aiohttp import web
from aiohttp.typedefs import Handler
from twinlock_common.host_header import host_name

from twinlock_service.errors import ApiError, Code
from twinlock_service.request.keys import CONTEXT

LISTENING_HOST = web.AppKey("listening_host", str)
"""What `--host` says; clients may call the service so."""


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raise `ApiError` 421 if the request is for a host name that isn't one of this service's."""
    given = request.headers.getall("Host", [])
    name = host_name(given)
    if name is None or not (_is_known(request, name) or _is_address_of(request, name)):
        shown = ", ".join(given)[:128] or "(none)"
        text = (
            f"this service doesn't answer to the host name {shown}; use localhost, or have its administrator add the "
            "name to `hosts` in the users file's section `service`"
        )
        raise ApiError(421, Code.REQUEST_MALFORMED, text)
    return await handler(request)


def _is_known(request: web.Request, name: str) -> bool:
    hosts = request.app[CONTEXT].users.settings.hosts
    return name in {each.lower() for each in ("localhost", socket.gethostname(), request.app[LISTENING_HOST], *hosts)}


def _is_address_of(request: web.Request, name: str) -> bool:
    """Return whether `name` is the address that the connection was made to, which can't be another site's name."""
    if request.transport is None:
        return False
    local = request.transport.get_extra_info("sockname")[0]
    try:
        return _address(name) == _address(local.partition("%")[0])
    except ValueError:
        return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    # A socket that listens on IPv6 and IPv4 shows an IPv4 address in this form.
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
