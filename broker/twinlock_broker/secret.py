"""Values that must never be printed, and where the broker's own come from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from twinlock_broker.errors import Fatal

T = TypeVar("T")


class Secret(Generic[T]):
    """Holds a credential. Nothing that formats it, logs it or pickles it can show it; only `reveal` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> str:
        raise TypeError("a secret can't be pickled")


@dataclass(frozen=True, slots=True)
class Login:
    """The confidential client as which the broker registers the endpoint."""

    client_id: str
    client_secret: Secret[str]


def load_login(environ: Mapping[str, str] = os.environ) -> Login:
    """The client from systemd's credentials `client_id` and `client_secret`, else from GLOBUS_COMPUTE_CLIENT_ID and
    GLOBUS_COMPUTE_CLIENT_SECRET. Raises `Fatal` (77) where there is none, or half of one.
    """
    client_id = _credential(environ, "client_id") or environ.get("GLOBUS_COMPUTE_CLIENT_ID", "")
    client_secret = _credential(environ, "client_secret") or environ.get("GLOBUS_COMPUTE_CLIENT_SECRET", "")
    if not client_id or not client_secret:
        missing = "client secret" if client_id else "client id" if client_secret else "client id and no client secret"
        raise Fatal(
            os.EX_NOPERM,
            f"no {missing}: set GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET, or give systemd's "
            "LoadCredential= the files client_id and client_secret",
        )
    return Login(client_id, Secret(client_secret))


def _credential(environ: Mapping[str, str], name: str) -> str:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return ""
    try:
        return (Path(folder) / name).read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"can't read the credential {name!r}: {error.strerror}") from error
