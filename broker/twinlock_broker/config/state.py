"""The file STATE/endpoint.json, which keeps the endpoint's uuid over restarts, as the agent's does."""

import json
import os
from pathlib import Path

from twinlock_common.files import replacing

from twinlock_broker.errors import Fatal


def remember(state: Path, endpoint_id: str) -> None:
    """Write the uuid. Raise `Fatal` (73).

    The file is replaced as a whole: without it a new endpoint would be registered, and with half of it the broker
    wouldn't start.
    """
    path = state / "endpoint.json"
    try:
        with replacing(path, durable=True) as draft:
            draft.write_text(json.dumps({"endpoint_id": endpoint_id}))
    except OSError as error:
        raise Fatal(os.EX_CANTCREAT, f"{path}: {error.strerror}; give --state a folder that the broker owns") from error
