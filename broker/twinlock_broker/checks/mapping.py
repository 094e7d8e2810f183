"""The identity mapping: whether it can be read, what is odd about it, and whom it maps."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from twinlock_common.site_files import read_file

from twinlock_broker.checks import accounts
from twinlock_broker.checks.finding import Finding, Subject, failure, ok, patience, unknown, warning
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.oddities import oddities
from twinlock_broker.identity.rules import describe_rule, read_identities

_ANY = "00000000-0000-0000-0000-000000000000"
_SAMPLE = "identity_mapping_config.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """What decides who gets in, besides the mapping."""

    groups: Sequence[str]
    """`allow_groups` of broker.yaml."""

    policy: Mapping[str, Any]
    """The content of the spawner's policy; empty if it can't be read."""


def check(path: Path | None, identities: list[str], entry: Entry) -> Iterator[Finding]:
    """Check the mapping at `path`, and try it on the `identities`, which are usernames or files."""
    if path is None:
        yield unknown(
            Subject.MAPPING,
            "identity_mapping_config_path isn't set: that works only without root, and serves only the owner",
        )
    elif path.is_file():
        odd = list(_odd(path))
        yield from (warning(Subject.MAPPING, f"{path}: {text}") for text in odd)
        failures: list[str] = []
        try:
            mapper = Mapper(path, _ANY, failures.append)
        except Fatal as error:
            yield failure(Subject.MAPPING, str(error))
            return
        if not odd:
            yield ok(Subject.MAPPING, f"{path}: can be read, and nothing in it is odd")
        yield from _try(path, mapper, identities, entry)
        yield from (warning(Subject.MAPPING, f"{path}: {text}") for text in dict.fromkeys(failures))


def _odd(path: Path) -> Iterator[str]:
    """Yield what its author is likely to have meant otherwise, as texts for people."""
    try:
        content = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return  # `Mapper` reports why it can't be read
    sample = resources.files("twinlock_broker") / "examples" / _SAMPLE
    if content == json.loads(sample.read_text()):
        yield "is still the sample of twinlock configure, which maps names under example.org; say who gets in"
    yield from oddities(content)


def _try(path: Path, mapper: Mapper, identities: list[str], entry: Entry) -> Iterator[Finding]:
    if not identities:
        yield unknown(Subject.IDENTITY, "no identity was given; try one with --identity USERNAME or --identity FILE")
    for name in identities:
        documents = read_identities(name)
        try:
            with patience(f"mapping the identity in {name}"):
                match, local = accounts.resolve(mapper, entry.groups, documents)
        except CommandError as error:
            yield failure(Subject.IDENTITY, f"{name}: {error.text}")
            continue
        who = f"{name}: {_who(documents)} is the account {match.user}, by {describe_rule(path, match, documents)}"
        reason = accounts.refusal(entry.policy, local)
        doubt = accounts.doubt(local)
        if reason:
            yield failure(Subject.IDENTITY, f"{who}, which the spawner's policy keeps out: {reason}")
        elif doubt:
            yield warning(Subject.IDENTITY, f"{who}: {doubt}")
        else:
            yield ok(Subject.IDENTITY, who)


def _who(documents: list[dict[str, Any]]) -> str:
    return ", ".join(str(document["username"] or document["id"]) for document in documents)
