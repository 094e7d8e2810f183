"""STATE/endpoint.json keeps the endpoint's uuid over restarts, as the peer's does."""

import json
import os
from pathlib import Path

from twinlock_common.files import replacing

from twinlock_broker.errors import Fatal


def remember(state: Path, endpoint_id: str) -> None:
    """Write the uuid. Atomically: a broken file would register a new endpoint. Raises `Fatal` (73)."""
    path = state / "endpoint.json"
    try:
        with replacing(path, durable=True) as draft:
            draft.write_text(json.dumps({"endpoint_id": endpoint_id}))
    except OSError as error:
        raise Fatal(os.EX_CANTCREAT, f"{path}: {error.strerror}; give --state a folder that the broker owns") from error
