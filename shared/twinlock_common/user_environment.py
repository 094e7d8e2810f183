"""The site's file of environment variables for user endpoints, user_environment.yaml."""

import re

from twinlock_common.site_files import load_yaml

NAME = "user_environment.yaml"
"""The file's name in the endpoint folder."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(%%)?")
"""Names of environment variables, Bash's exported functions (``BASH_FUNC_module%%``) among them."""


def parse(text: str) -> dict[str, str]:
    """Return the variables in the file's text. Raise `ValueError`, for the administrator."""
    found = load_yaml(text) or {}
    if not isinstance(found, dict):
        raise ValueError("has to be a YAML mapping of names to values")
    for name in found:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} can't be the name of an environment variable; put the name in quotes")
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} can't be the name of an environment variable")
    values = {name: str(value) for name, value in found.items()}
    for name, value in values.items():
        if "\0" in value:
            raise ValueError(f"the value of {name} has a null character, which an environment variable can't have")
    return values
