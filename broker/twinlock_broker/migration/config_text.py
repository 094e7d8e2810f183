"""Changes to single keys of a config.yaml or a policy that leave the rest of the text, comments included, as it is."""

import json
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import yaml

_PAM = re.compile(r"""^pam_service\s*=\s*("[^"\n]*"|'[^'\n]*')""", re.MULTILINE)
_TABLE = re.compile(r"^\[", re.MULTILINE)


def change(text: str, changes: Mapping[str, Any]) -> str:
    """Return the YAML mapping `text` with these values of its top-level keys; None takes a key out."""
    kept = {key: value for key, value in (yaml.safe_load(text) or {}).items() if key not in changes}
    wanted = kept | {key: value for key, value in changes.items() if value is not None}
    edited = _edit(text, changes)
    with suppress(yaml.YAMLError):  # a layout in which lines can't be exchanged, such as {a: 1, b: 2}
        if (yaml.safe_load(edited) or {}) == wanted:
            return edited
    return yaml.safe_dump(wanted, sort_keys=False)


def _edit(text: str, changes: Mapping[str, Any]) -> str:
    node = yaml.compose(text)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    spans = [(key.value, key.start_mark.index, _end(value)) for key, value in pairs]
    for name, start, end in reversed(spans):
        if name in changes:
            tail = text[len(text[:end].rstrip()) :]
            entry = _entry(name, changes[name])
            text = text[:start] + (entry + tail if entry else tail.removeprefix("\n"))
    new = [_entry(name, value) for name, value in changes.items() if name not in {span[0] for span in spans}]
    added = "".join(f"{entry}\n" for entry in new if entry)
    return text if not added else f"{text.rstrip()}\n{added}".lstrip()


def _end(node: yaml.Node) -> int:
    """Return where a value ends. A block's own mark is behind the comments that follow it."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _entry(name: str, value: Any) -> str:
    return "" if value is None else yaml.safe_dump({name: value}, sort_keys=False).rstrip()


def set_pam_service(policy: str, service: str) -> str:
    """Return the spawner's policy with this `pam_service`. Raise `ValueError` if it can't be put in."""
    line = f"pam_service = {json.dumps(service)}"
    changed, count = _PAM.subn(lambda _: line, policy, count=1)
    if not count:
        table = _TABLE.search(policy)
        place = table.start() if table else len(policy)
        changed = f"{policy[:place]}{line}\n\n{policy[place:]}"
    if tomllib.loads(changed).get("pam_service") != service:
        raise ValueError("pam_service has no place in it")
    return changed
