"""The reference's tables, out of the tables that the programs themselves read: for the site and for the man pages."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any

from twinlock_broker import metrics
from twinlock_broker.checks.finding import MEANINGS
from twinlock_broker.config.keys import BROKER_KEYS, MANAGER_KEYS
from twinlock_broker.console.keys import CONSOLE_KEYS
from twinlock_broker.control import canary, endpoint_metrics
from twinlock_common.keys import Key
from twinlock_endpoint.config.keys import KEYS
from twinlock_endpoint.engines import ENGINES
from twinlock_endpoint.engines.options import Options
from twinlock_endpoint.htex import parsl_types
from twinlock_service.users.users_file import Settings
from twinlock_signed.keys import KEYS as VERIFIED_KEYS
from twinlock_signed.keys import REQUIRED as NO_DEFAULT
from twinlock_spawner.policy import Policy

REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Row:
    """A key: its value's kind, default and meaning, for people."""

    name: str
    kind: str
    default: str
    meaning: str


def rows(table: str) -> list[Row]:
    """Return the rows of the table with this name. Raise `KeyError` if there is none."""
    return list(_TABLES[table]())


def names(table: str) -> list[str]:
    """Return the list with this name. Raise `KeyError` if there is none."""
    return sorted(_LISTS[table])


def _manager() -> Iterable[Row]:
    return map(_row, MANAGER_KEYS)


def _broker() -> Iterable[Row]:
    return map(_row, BROKER_KEYS)


def _console() -> Iterable[Row]:
    return map(_row, CONSOLE_KEYS)


def _row(key: Key) -> Row:
    return Row(key.name, _unit(key.kind.name, key.unit), _value(key.default), key.meaning)


def _policy() -> Iterable[Row]:
    for name, hint in typing.get_type_hints(Policy, include_extras=True).items():
        _, kind, meaning = typing.get_args(hint)
        default = _value(getattr(Policy, name)) if hasattr(Policy, name) else REQUIRED
        yield Row(name, kind.words, default, meaning)


def _endpoint() -> Iterable[Row]:
    for name, key in KEYS.items():
        default = REQUIRED if name == "engine" else _value(key.default)
        yield Row(name, key.unit, default, key.meaning)


def _engine() -> Iterable[Row]:
    hints = typing.get_type_hints(Options, include_extras=True)
    for field in fields(Options):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        yield Row(field.name, "", _value(default), typing.get_args(hints[field.name])[1])


def _service() -> Iterable[Row]:
    for name, key in Settings.model_fields.items():
        yield Row(name, key.title or "", _value(key.default), key.description or "")


def _verified() -> Iterable[Row]:
    for key in VERIFIED_KEYS:
        default = REQUIRED if key.default is NO_DEFAULT else _value(key.default)
        yield Row(key.name, _unit(key.kind.name, key.unit), default, key.meaning)


def _metrics() -> Iterable[Row]:
    only_sometimes = (metrics.MAPPING_VALID, metrics.MAPPING_LOADED, metrics.AUDIT_WRITABLE)
    families = [family for metric in (metrics.REGISTRY, *only_sometimes) for family in metric.collect()]
    for metric in [*families, *endpoint_metrics.families(), *canary.families()]:
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield Row(name, metric.type, "", metric.documentation)


def _unit(kind: str, unit: str) -> str:
    return f"{kind}, in {unit}" if unit else kind


def _value(value: Any) -> str:
    if value in (None, "", (), [], {}):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _checks() -> Iterable[Row]:
    return (Row(subject, "", "", meaning) for subject, meaning in MEANINGS.items())


_TABLES: dict[str, Callable[[], Iterable[Row]]] = {
    "manager": _manager,
    "broker": _broker,
    "console": _console,
    "policy": _policy,
    "endpoint": _endpoint,
    "engine": _engine,
    "metrics": _metrics,
    "verified": _verified,
    "checks": _checks,
    "service": _service,
}
_LISTS: dict[str, Iterable[str]] = {
    "engines": ENGINES,
    "providers": parsl_types.PROVIDERS,
    "launchers": parsl_types.LAUNCHERS,
}
