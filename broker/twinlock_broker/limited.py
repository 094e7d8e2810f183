"""Calls that can block while a user waits for them: name services, mappers, templates."""

from collections.abc import Callable

from twinlock_common.offload import Offload, T

from twinlock_broker.errors import CommandError


async def limited(offload: Offload, limit: float, doing: str, call: Callable[[], T]) -> T:
    """Do as `Offload.run` for a user who waits.

    An overrun becomes a `CommandError` that says what this site was `doing`.
    """
    try:
        return await offload.run(limit, call)
    except TimeoutError as error:
        raise CommandError(
            f"This site took more than {limit:.0f} seconds for {doing}. Submit again later; if that doesn't help, "
            "tell the endpoint's administrator"
        ) from error
