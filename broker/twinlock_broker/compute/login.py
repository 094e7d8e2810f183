"""The login of the broker at the Compute service: a confidential client, or a person who ran ``twinlock login``."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import globus_sdk
from globus_sdk.authorizers import GlobusAuthorizer
from globus_sdk.token_storage import JSONTokenStorage
from globus_sdk.transport import RetryConfig
from twinlock_common.files import replacing

from twinlock_broker.errors import Fatal
from twinlock_broker.secret import Secret

NATIVE_CLIENT = "4cf29807-cf21-49ec-9443-ff9a3fb9f81c"
"""The public client under which the official SDK and agent have people log in; it has no secret."""

COMPUTE_SCOPES = [globus_sdk.ComputeClientV3.scopes.all]
AUTH_SCOPES = [globus_sdk.scopes.AuthScopes.openid, globus_sdk.scopes.AuthScopes.manage_projects]
"""Scopes for registration, and for asking about the login's own identities: `manage_projects` for the linked ones."""

_SERVERS = {
    str(COMPUTE_SCOPES[0]): globus_sdk.ComputeClientV3.scopes.resource_server,
    str(AUTH_SCOPES[0]): globus_sdk.scopes.AuthScopes.resource_server,
}


class NoLogin(Fatal):
    """There is no login at all, not even half of a client."""


class Login(Protocol):
    """A client or a person that the broker logs in as."""

    @property
    def name(self) -> str:
        """The login's name, for people."""

    def authorizer(self, environment: str | None, scopes: list[globus_sdk.Scope]) -> GlobusAuthorizer:
        """Return what authorizes requests with one of the lists of scopes above. May block. Raise `Fatal` (77)."""


@dataclass(frozen=True, slots=True)
class ClientLogin:
    """A confidential client."""

    client_id: str
    client_secret: Secret[str]

    @property
    def name(self) -> str:
        """The client's id, for people."""
        return f"client {self.client_id}"

    def authorizer(
        self, environment: str | None, scopes: list[globus_sdk.Scope]
    ) -> globus_sdk.ClientCredentialsAuthorizer:
        """Return an authorizer that logs in with the client's secret. May block."""
        client = globus_sdk.ConfidentialAppAuthClient(
            self.client_id,
            self.client_secret.reveal(),
            environment=environment,
            retry_config=RetryConfig(max_retries=2),
        )
        return globus_sdk.ClientCredentialsAuthorizer(client, scopes)


@dataclass(frozen=True, slots=True)
class PersonLogin:
    """A person who ran ``twinlock login``."""

    path: Path
    """The file with the person's tokens, which globus-sdk keeps for its owner alone."""

    @property
    def name(self) -> str:
        """The file with the tokens, for people."""
        return f"the person who logged in, {self.path}"

    def authorizer(self, environment: str | None, scopes: list[globus_sdk.Scope]) -> globus_sdk.RefreshTokenAuthorizer:
        """Return an authorizer that uses the person's tokens, and writes fresh ones to the file. Raise `Fatal` (77)."""
        storage = JSONTokenStorage(self.path)
        try:
            found = storage.get_token_data(_SERVERS[str(scopes[0])])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Fatal(os.EX_NOPERM, f"{self.path}: can't be read ({error!r}); run twinlock login again") from error
        if found is None or found.refresh_token is None:
            raise Fatal(os.EX_NOPERM, f"{self.path}: the token for this is missing; run twinlock login again")
        return globus_sdk.RefreshTokenAuthorizer(
            found.refresh_token,
            native_client(environment),
            access_token=found.access_token,
            expires_at=found.expires_at_seconds,
            on_refresh=self._keep,
        )

    def _keep(self, tokens: globus_sdk.OAuthTokenResponse) -> None:
        """Replace the file as a whole, so that a full disk doesn't cost the login. Raise `OSError`."""
        with replacing(self.path) as draft:
            shutil.copy(self.path, draft)
            JSONTokenStorage(draft).store_token_response(tokens)


def native_client(environment: str | None) -> globus_sdk.NativeAppAuthClient:
    """Return a client of Globus Auth that acts as the public client."""
    return globus_sdk.NativeAppAuthClient(
        NATIVE_CLIENT, environment=environment, retry_config=RetryConfig(max_retries=2)
    )


def log_in(path: Path, environment: str | None, ask: Callable[[str], str]) -> None:
    """Have a person log in. `ask` is given an address to open, and returns the code that is shown there.

    The tokens go to `path`, mode 0600. Raise `Fatal` (73) if it can't be written, and globus-sdk's own errors.
    """
    client = native_client(environment)
    client.oauth2_start_flow(requested_scopes=[*COMPUTE_SCOPES, *AUTH_SCOPES], refresh_tokens=True)
    tokens = client.oauth2_exchange_code_for_tokens(ask(client.oauth2_get_authorize_url()))
    try:
        JSONTokenStorage(path).store_token_response(tokens)
    except OSError as error:
        raise Fatal(
            os.EX_CANTCREAT, f"{path}: {error.strerror}; log in as the account that the broker runs as"
        ) from error


def log_out(path: Path, environment: str | None) -> None:
    """Have all tokens in the file at `path` revoked, and remove the file. After an error it is as it was before.

    Raise `Fatal` (73) if it can't be read or removed, and globus-sdk's own errors.
    """
    try:
        found = JSONTokenStorage(path).get_token_data_by_resource_server().values()
        tokens = [token for data in found for token in (data.access_token, data.refresh_token) if token]
        client = native_client(environment)
        for token in tokens:
            client.oauth2_revoke_token(token)
        path.unlink()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        raise Fatal(
            os.EX_CANTCREAT,
            f"{path}: can't be read or removed: {reason}; remove it, and revoke the consent at "
            "https://app.globus.org/settings/consents",
        ) from error


def token_file(state: Path) -> Path:
    """Return where a person's tokens are in the broker's state folder."""
    return state / "tokens.json"


def installed_client(folder: Path) -> ClientLogin | None:
    """Return the client in the folder that systemd takes credentials from, with the files `id` and `secret`.

    It is None if there is neither file.

    Raises:
        Fatal: 66, a file can't be read; 77, one of them is missing or empty.
    """
    client_id, client_secret = (_read_if_there(folder / name) for name in ("id", "secret"))
    if client_id and client_secret:
        return ClientLogin(client_id, Secret(client_secret))
    if client_id or client_secret:
        absent = folder / ("secret" if client_id else "id")
        raise Fatal(os.EX_NOPERM, f"{absent}: is missing or empty; write the client's {absent.name} into it")
    return None


def load_login(state: Path, environ: Mapping[str, str] = os.environ) -> Login:
    """Return the broker's login.

    It is the client in systemd's credentials `client_id` and `client_secret`, else in GLOBUS_COMPUTE_CLIENT_ID and
    GLOBUS_COMPUTE_CLIENT_SECRET, else the person who logged in. Id and secret come from the same place.

    Raises:
        NoLogin: 77, there is none.
        Fatal: 66, a credential can't be read; 77, there is only half of a client in the first place that has any.
    """
    place, client_id, client_secret = _client(environ)
    if client_id and client_secret:
        return ClientLogin(client_id, Secret(client_secret))
    if not place and token_file(state).exists():
        return PersonLogin(token_file(state))
    missing = f"client {'secret' if client_id else 'id'} in {place}" if place else "login"
    text = (
        f"no {missing}: set GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET, or give systemd's "
        f"LoadCredential= the files client_id and client_secret, or run twinlock login (tokens in {token_file(state)})"
    )
    if place:
        raise Fatal(os.EX_NOPERM, text)
    raise NoLogin(os.EX_NOPERM, text)


def _client(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the place that has a client or half of one, the id and the secret; what isn't there is empty."""
    credentials = _credential(environ, "client_id"), _credential(environ, "client_secret")
    if any(credentials):
        return "systemd's credentials", *credentials
    variables = environ.get("GLOBUS_COMPUTE_CLIENT_ID", ""), environ.get("GLOBUS_COMPUTE_CLIENT_SECRET", "")
    if any(variables):
        return "the environment", *variables
    return "", "", ""


def _credential(environ: Mapping[str, str], name: str) -> str:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    return _read_if_there(Path(folder) / name) if folder else ""


def _read_if_there(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        raise Fatal(os.EX_NOINPUT, f"can't read the credential {path}: {reason}") from error
