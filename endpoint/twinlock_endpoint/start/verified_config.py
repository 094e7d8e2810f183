"""The configuration of an endpoint in verified mode: what one in plain mode can have, but for some keys."""

from twinlock_endpoint.config.configuration import Config
from twinlock_endpoint.engines.base import Engine
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.start import run

_TOO_LATE = ("amqp_port", "log_dir", "paths", "stderr", "stdout")
"""Keys of the configuration whose values are needed before there is one."""


def load(text: str, *, audited: bool) -> tuple[Config, Engine]:
    """Return the configuration in a text, and its engine. Raise `ConfigError` if this mode can't use them."""
    config, engine = run.load(text, audited=audited)
    for name in _TOO_LATE:
        if getattr(config, name):
            raise ConfigError(
                f"The endpoint's configuration has {name!r}, which an endpoint in verified mode would need before it "
                "has a configuration; leave it out."
            )
    if config.allowed_functions is not None:
        raise ConfigError(
            "The endpoint's configuration has 'allowed_functions', and in verified mode nobody vouches for uuids of "
            "functions; use `allowed_functions` of verified.toml."
        )
    if not engine.encrypted:
        raise ConfigError("The engine of an endpoint in verified mode needs 'encrypted: true'.")
    return config, engine
