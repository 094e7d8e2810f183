"""A local account, as templates and the identity mapping know it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Account:
    """One row of the user database (passwd(5)), and all groups of that user."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    gecos: str
    shell: str
    home: str
