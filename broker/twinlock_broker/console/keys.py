"""The keys of `console.yaml`, and their values once they are read."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_common.keys import TEXT, Key, Kind

from twinlock_broker.config.keys import ADDRESS, PATH, TEXTS, read_keys
from twinlock_broker.config.yaml_file import read_mapping
from twinlock_broker.errors import Fatal

LONGEST_HISTORY = 168.0
"""Hours."""


def _header(value: Any) -> str:
    """Read the name of a header. Others than these can't be told from each other by every web server."""
    text: str = TEXT.read(value)
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
        raise ValueError
    return text


def _hours(value: Any) -> float:
    if type(value) not in (int, float) or not 1 <= value <= LONGEST_HISTORY:
        raise ValueError
    return float(value)


HEADER = Kind("the name of a header, of letters, digits and -", _header)
HOURS = Kind(f"a number from 1 to {LONGEST_HISTORY:.0f}", _hours)

CONSOLE_KEYS = (
    Key(
        "listen",
        ADDRESS,
        "/run/twinlock-console/console.sock",
        "",
        "where the web server connects: a socket's path, or HOST:PORT on loopback, which needs proxy_secret_file",
    ),
    Key("socket_group", TEXT, None, "", "group that may connect to the socket: the web server's, such as www-data"),
    Key(
        "broker_socket", PATH, Path("/run/twinlock-broker/readers.sock"), "", "readers.sock in the broker's runtime_dir"
    ),
    Key(
        "user_header",
        HEADER,
        "X-Remote-User",
        "",
        "the header in which the web server names the account of the person who has logged in",
    ),
    Key(
        "proxy_secret_file",
        PATH,
        None,
        "",
        "file with the secret that the web server sends in X-Twinlock-Secret, and that nobody else knows",
    ),
    Key(
        "hosts",
        TEXTS,
        ("localhost",),
        "",
        "host names of the page, as the web server passes them on; it answers to no others",
    ),
    Key("administrators", TEXTS, (), "", "accounts that see everybody's endpoints"),
    Key("administrator_groups", TEXTS, (), "", "local groups whose members see everybody's endpoints"),
    Key("history", HOURS, 6.0, "h", "how far back the plots go, in memory only; they have 360 points"),
)
"""The file that `twinlock-console --config` names."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the keys, whose meanings `CONSOLE_KEYS` has."""

    listen: str
    socket_group: str | None
    broker_socket: Path
    user_header: str
    proxy_secret_file: Path | None
    hosts: tuple[str, ...]
    administrators: tuple[str, ...]
    administrator_groups: tuple[str, ...]
    history: float

    @property
    def on_tcp(self) -> bool:
        """Whether it listens on a port, to which every account of the host can connect."""
        return not self.listen.startswith("/")


def read_settings(path: Path | None) -> Settings:
    """Return the settings in the file, or the defaults. Raise `Fatal` (66, 78)."""
    settings = Settings(**read_keys(CONSOLE_KEYS, {} if path is None else read_mapping(path), str(path)))
    if settings.on_tcp and settings.proxy_secret_file is None:
        raise Fatal(
            os.EX_CONFIG,
            f"{path}: listen is a port, to which every account of this host can connect and say who it is; "
            "set proxy_secret_file, or listen to a socket's path",
        )
    return settings
