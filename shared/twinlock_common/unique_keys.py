"""YAML in which a mapping has each key once, as in YAML 1.2 (3.2.1.1); PyYAML takes the last of two."""

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class DuplicateKeyError(yaml.constructor.ConstructorError):
    """A mapping has a key twice. The text quotes the key."""

    def __init__(self, key: yaml.ScalarNode, first_line: int) -> None:
        problem = f"the key {key.value!r} is on line {first_line} already; remove one of the two"
        super().__init__(None, None, problem, key.start_mark)
        self.first_line = first_line
        """The line that has the key first, from 1."""
        self.line: int = key.start_mark.line + 1
        """The line that has it again, from 1."""


class UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that raises `DuplicateKeyError`."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose the mapping as SafeLoader does, and refuse a key that it has twice."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            name = key.tag, key.value
            if name in lines:
                raise DuplicateKeyError(key, lines[name])
            lines[name] = key.start_mark.line + 1
        return node
