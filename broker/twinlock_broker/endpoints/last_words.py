"""The text that a user gets when an endpoint has ended."""

from twinlock_broker.endpoints.endpoint import Stopper
from twinlock_broker.endpoints.registry import Ending

STOPPED = {
    Stopper.ADMINISTRATOR: "The endpoint's administrator stopped your endpoint. Submit again to start another",
    Stopper.USER: "You, or somebody with your account at the site, stopped your endpoint there. Submit again to start "
    "another",
}


def last_words(ending: Ending, text: str, revivals: int = 0) -> str:
    """Return what a user is told of an endpoint that ended badly.

    `text` is what it printed before it opened its own log. `revivals` is how often it was started again to finish its
    tasks.
    """
    again = f"; it was started again {revivals} times for the tasks that it had" if revivals else ""
    if ending.settled:
        return f"Your endpoint {ending}{again}. Its own log, endpoint.log, may tell why; submit again to start another"
    printed = f"It printed:\n{text}" if text else "It printed nothing; tell the endpoint's administrator"
    return f"Your endpoint {ending}{again}. {printed}"
