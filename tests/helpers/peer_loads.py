"""Run by the agent's Python: loads configurations as the agent's endpoint does, and says what came of each.

Reads a JSON list of YAML texts; prints a JSON list with an empty text for each that it takes, else its words.
"""

import json
import logging
import sys

from globus_compute_endpoint.endpoint.config.utils import load_config_yaml  # type: ignore[import-not-found]


def words(text: str) -> str:
    """What the agent says against that configuration."""
    try:
        load_config_yaml(text)
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


logging.disable()
json.dump([words(text) for text in json.load(sys.stdin)], sys.stdout)
