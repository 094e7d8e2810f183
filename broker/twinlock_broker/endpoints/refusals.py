"""What a user is told when a start is refused, mostly by the spawner, whose own reason may name the host's paths."""

from twinlock_wire import wire

from twinlock_broker.endpoints.admission import BLOCKED, DRAINING
from twinlock_broker.endpoints.launcher import HOST
from twinlock_broker.endpoints.readers import UNREAD

_ADMINISTRATOR = "ask the endpoint's administrator"
_POLICY = f"This site's policy doesn't let the account {{user!r}} run endpoints: {{reason}}; {_ADMINISTRATOR}"
_SAID = {
    "blocked": f"The account {{user!r}} is blocked at this endpoint: {{reason}}; {_ADMINISTRATOR}",
    "draining": "This endpoint starts nothing at the moment: {reason}; submit again when that is over",
    "policy": _POLICY,
    "session-groups": _POLICY,
    "limit": "This site's limit of endpoints is reached: {reason}; submit again when one of them has ended",
    "lookup": f"The account {{user!r}} can't be looked up on this host: {{reason}}; {_ADMINISTRATOR}",
    "rate": "Endpoints are started more often than this site allows: {reason}; submit again then",
    "audit": f"This site can't record starts at the moment; {_ADMINISTRATOR}",
    "session": f"This site doesn't open a session for the account {{user!r}}: {{reason}}; {_ADMINISTRATOR}",
    "timeout": "The start of your endpoint took longer than this site allows. Your home directory, or the host's user "
    "database, may not answer; submit again later, and if that doesn't help, tell the endpoint's administrator",
    "unanswered": "This site's spawner didn't answer in time; submit again later",
    "lost": "This site's spawner was restarted during the start; submit again",
    UNREAD: "Processes of the account {user!r} have kept this site from reading what earlier endpoints of it printed, "
    f"and still do: {{reason}}. End them, then submit again; if you know of none, {_ADMINISTRATOR}",
    "program": f"The endpoint program is missing on this host, or isn't safe to run; {_ADMINISTRATOR}",
    "exec": f"The endpoint program can't be executed on this host; {_ADMINISTRATOR}",
}
_SOURCES = {BLOCKED: "administrator", DRAINING: "administrator", UNREAD: "broker", HOST: "broker"}
"""Who refused, at the stages that aren't the spawner's."""

_OTHER = f"The endpoint couldn't be started (stage {{stage!r}}); {_ADMINISTRATOR}"


def explain(refusal: wire.Refused, user: str) -> str:
    """Return the refusal of a start for the account `user`, for that user: what is wrong, and what to do."""
    text = _SAID.get(refusal.stage, _OTHER)
    return text.format(user=user, stage=refusal.stage, reason=refusal.reason[:500])


def detail(refusal: wire.Refused) -> str:
    """Return the refusal for the administrator: who refused, at which stage, and why."""
    source = _SOURCES.get(refusal.stage, "spawner")
    return f"{source}: {refusal.stage}: {refusal.reason}"
