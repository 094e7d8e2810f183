"""Where aiohttp keeps what is known of the service, and of the request that it serves."""

from __future__ import annotations

from aiohttp import web

from twinlock_service.context import Context
from twinlock_service.users.directory import Identity, Login

CONTEXT = web.AppKey("context", Context)
CALLER = web.RequestKey("caller", Identity)
LOGIN = web.RequestKey("login", Login)
"""The token that the caller has shown."""
