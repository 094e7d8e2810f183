"""What is raised for signed work."""

import os


class Refused(ValueError):
    """Signed work, or a signed result, can't be believed. The text names the thing, the reason and the next step."""


class ConfigError(ValueError):
    """A file of the administrator can't be used. The text names the thing, the reason and the next step."""

    exit_code = os.EX_CONFIG
