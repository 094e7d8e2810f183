"""A local account, as templates and the identity mapping know it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """An account's row of the user database (passwd(5)), and all its groups."""

    name: str
    """The login name."""
    uid: int
    """The user id."""
    gid: int
    """The id of the primary group."""
    groups: tuple[int, ...]
    """The ids of all groups, the primary one included."""
    gecos: str
    """The full name and other remarks, by convention; users may set it."""
    shell: str
    """The login shell."""
    home: str
    """The home directory."""
