"""A user's script, for a Python that has the SDK and nothing of ours: functions that return what they make themselves.

Prints a JSON object: for each function and each of the SDK's strategies the buffer of a task.
"""

import json
from collections.abc import Callable

from globus_compute_sdk.serialize import ComputeSerializer
from globus_compute_sdk.serialize.concretes import SELECTABLE_CODE_STRATEGIES


def a_lambda() -> Callable[[int], int]:
    return lambda number: number * 2


def a_partial() -> Callable[[int], int]:
    import functools

    def multiply(one: int, other: int) -> int:
        return one * other

    return functools.partial(multiply, 2)


def an_instance() -> Callable[[int], int]:
    class Doubler:
        factor = 2

        def __call__(self, number: int) -> int:
            return self.apply(number)

        def apply(self, number: int) -> int:
            return number * self.factor

    return Doubler()


def a_closure() -> Callable[[int], int]:
    import operator

    factor = 2

    def outer(number: int) -> int:
        def inner() -> int:
            return int(operator.mul(number, factor))

        return inner()

    return outer


def a_class() -> type:
    class Base(int):
        def __new__(cls, number: int):  # type: ignore[no-untyped-def]
            return super().__new__(cls, number * 2)

    class Derived(Base):
        pass

    return Derived


def an_exception() -> Exception:
    class OwnError(Exception):
        def __call__(self, number: int) -> int:
            return number * len(self.args)

    return OwnError("one", "two")


def raising() -> None:
    class OwnError(Exception):
        pass

    raise OwnError("raised here")


def names() -> dict[str, str]:
    import sys

    found = {**globals(), **vars(sys.modules["__main__"])}
    return {name: getattr(value, "__module__", "") for name, value in found.items() if not name.startswith("__")}


FUNCTIONS = (a_lambda, a_partial, an_instance, a_closure, a_class, an_exception, raising, names)


def main() -> None:
    buffers = {}
    for strategy in SELECTABLE_CODE_STRATEGIES:
        serializer = ComputeSerializer(strategy_code=strategy())
        for function in FUNCTIONS:
            task: tuple[object, ...] = (function, (), {})
            parts = [serializer.serialize(part) for part in task]
            buffers[f"{strategy.__name__} {function.__name__}"] = serializer.pack_buffers(parts)
    print(json.dumps(buffers))


if __name__ == "__main__":
    main()
