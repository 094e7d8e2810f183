"""Who asks for work: an account at a site, such as ``ada@cluster.example.org``."""

import uuid
from typing import NamedTuple

from twinlock_signed.account import is_account, is_site
from twinlock_signed.errors import Refused


class User(NamedTuple):
    """An account at a site."""

    account: str
    """The name of the account on the site's hosts."""
    site: str
    """What the site calls itself, which has the form of a host name."""

    def __str__(self) -> str:
        return f"{self.account}@{self.site}"


def read(text: str) -> User:
    """Return whom a text names. Raise `Refused` if it isn't an account and a site."""
    account, _, site = text.rpartition("@")
    if not is_account(account) or not is_site(site):
        raise Refused(
            f"user {text[:300]!r}: it is not an account and a site, in small letters, such as "
            "ada@cluster.example.org; ask your site for its name"
        )
    return User(account, site)


def read_endpoint(text: object) -> str:
    """Return the uuid of an endpoint as statements have it. Raise `Refused` if it isn't one."""
    try:
        return str(uuid.UUID(str(text)))
    except ValueError:
        raise Refused(f"endpoint {str(text)[:100]!r}: it is not a uuid; your site tells you the endpoint's") from None
