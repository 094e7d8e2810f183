"""Calls of classes with arguments from a configuration; errors name what is wrong in the configuration's words."""

import inspect
import re
import typing
from collections.abc import Callable
from contextlib import suppress
from numbers import Real
from types import UnionType
from typing import Any, TypeVar

from twinlock_common.keys import nearest

from twinlock_endpoint.errors import ConfigError

T = TypeVar("T")

_DROPPED = {
    "channel": "Parsl runs the scheduler's commands on the endpoint's host",
    "move_files": "Parsl never moves the scripts of its jobs",
}
"""Arguments from templates for older releases of Parsl, each with the reason why it is gone."""

_TIME = re.compile(r"\d+:[0-5]\d:[0-5]\d")
_WITH_DAYS = re.compile(r"(\d+)[-:](\d+):([0-5]\d:[0-5]\d)")


def construct(what: str, call: Callable[..., T], arguments: dict[str, Any]) -> T:
    """Return `call(**arguments)`. Raise `ConfigError` with `what`, the argument and the nearest one that there is."""
    parameters = inspect.signature(call).parameters
    types = _types(call)
    arguments = dict(arguments)
    for name, value in arguments.items():
        if name in _DROPPED and name not in parameters:
            raise ConfigError(f"{what} has no argument {name!r} any more: {_DROPPED[name]}; leave it out.")
        if name not in parameters:
            raise ConfigError(f"{what} has no argument {name!r}; {nearest(str(name), parameters)}")
        arguments[name] = _argument(what, value, parameters[name], types.get(name))
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ConfigError(f"{what} needs the argument {name!r}.")
    try:
        return call(**arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{what} can't be made: {error}") from error


def _types(call: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(call.__init__ if inspect.isclass(call) else call)


def _argument(what: str, value: object, parameter: inspect.Parameter, annotation: Any) -> object:
    """Return the value as `parameter` takes it. Raise `ConfigError` if it can't be that."""
    if parameter.name == "walltime":
        value = _walltime(what, value)
    if annotation is not None:
        return _fit(what, parameter.name, value, annotation)
    return _fit(what, parameter.name, _converted(value, parameter.default), _like(parameter.default))


def _like(default: object) -> Any:
    """Return the type that the default tells: some of Parsl's classes have no annotations."""
    if isinstance(default, bool | str):
        return type(default)
    return Real if isinstance(default, Real) else Any


def _walltime(what: str, value: object) -> object:
    """Return a time as H:MM:SS, given as a number of seconds or as a time with days before it.

    YAML takes 1:00:00 without quotes for a number to the base 60, 3600. Slurm writes a day as 1-00:00:00, others as
    1:00:00:00.
    """
    if isinstance(value, str):
        return _without_days(what, value.strip())
    if type(value) is not int:
        return value
    if value < 60:
        raise ConfigError(
            f"{what} has 'walltime': {value}, which is less than a minute: a number is a number of seconds. "
            "Write the time as 'H:MM:SS'"
        )
    return f"{value // 3600}:{value // 60 % 60:02}:{value % 60:02}"


def _without_days(what: str, text: str) -> str:
    """Return a time with its days counted as hours.

    Raise `ConfigError` if Parsl would fail at each submission: for LSF and Slurm it makes minutes of the time.
    """
    if days := _WITH_DAYS.fullmatch(text):
        return f"{24 * int(days[1]) + int(days[2])}:{days[3]}"
    if what in ("LSFProvider", "SlurmProvider") and not _TIME.fullmatch(text):
        raise ConfigError(f"{what} has 'walltime': {text!r}. Write the time as 'H:MM:SS'")
    return text


def _converted(value: object, default: object) -> object:
    """Return a number as text if the default is text, or the reverse; else return the value as it is.

    It is for classes without annotations, which take both.
    """
    if isinstance(value, bool) or isinstance(default, bool):
        return value
    if isinstance(default, str) and isinstance(value, int | float):
        return str(value)
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(default, int | float) and isinstance(value, str):
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value)
    return value


def _fit(what: str, name: str, value: object, wanted: Any) -> object:
    """Return the value, of the wanted type; YAML has no tuples, so lists are taken for those.

    A wrong type that the class itself doesn't notice would fail far from here, in a thread of Parsl's.
    """
    if _is(value, wanted):
        return value
    if type(value) is int and _is("", wanted):  # such as an account that has only digits
        return str(value)
    from typeguard import TypeCheckError, check_type  # a large package, that most configurations don't need

    for form in _with_tuples(value) if "Tuple[" in str(wanted) else ():
        with suppress(TypeCheckError):
            return check_type(form, wanted)
    try:
        return check_type(value, wanted)
    except TypeCheckError as error:
        raise ConfigError(f"{what} has {name!r}: {value!r}, which is wrong: {error}.") from None


def _with_tuples(value: object) -> list[object]:
    if not isinstance(value, list):
        return []
    return [tuple(value), [tuple(item) if isinstance(item, list) else item for item in value]]


def _is(value: object, wanted: Any) -> bool:
    """Return whether the value is of a class that is wanted; False if that takes more than a look at the class."""
    kinds = typing.get_args(wanted) if typing.get_origin(wanted) in (typing.Union, UnionType) else (wanted,)
    return any(kind is Any or (isinstance(kind, type) and isinstance(value, kind)) for kind in kinds)
