"""The name under which an endpoint takes delegations: that of its folder, whose journal says what it still has to run.

The broker could start an endpoint of the same uuid where the folder is another one: on another host, or under another
manager endpoint's uuid. If both could take a delegation, a task that is in both journals would run twice.
"""

import uuid
from pathlib import Path

from twinlock_common.files import replacing

from twinlock_endpoint.errors import ConfigError


def name_of(folder: Path) -> str:
    """Return the name of an endpoint's folder, a random uuid, which is made once. Only who holds the folder may ask.

    Raises:
        ConfigError: the file with the name has none in it.
        OSError: it can't be read or made.
    """
    path = folder / "claimant"
    if not path.exists():
        with replacing(path, durable=True) as draft:
            draft.write_text(str(uuid.uuid4()))
    try:
        return str(uuid.UUID(path.read_text()))
    except ValueError:
        raise ConfigError(f"{path} has no uuid in it. Remove it, and begin a new session.") from None
