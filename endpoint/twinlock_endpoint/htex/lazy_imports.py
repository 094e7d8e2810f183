"""Packages whose `__init__` gathers far more than the endpoint needs, loaded without it until somebody needs it.

`import parsl.executors.high_throughput.executor` alone brings in every provider and executor of Parsl's, kubernetes,
globus-sdk, requests and pydantic: 1,000 modules, 50 MB. Here the package stands in sys.modules with its path, so that
its submodules can be imported. A name that its `__init__` imports from elsewhere is taken from there; any other name
has the `__init__` run after all, in the same module object. So tasks that use these packages find them whole.
"""

import ast
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_FOR_PARSL = ("parsl", "parsl.executors", "parsl.monitoring", "parsl.providers", "requests", "typeguard")
_lock = threading.RLock()


class _Package(ModuleType):
    """A package whose `__init__` hasn't run.

    `_origins` has the names that the `__init__` imports, each with the module that it comes from and its name there.
    """

    _origins: dict[str, tuple[str, str]]

    def __getattr__(self, name: str) -> Any:
        """Load what isn't there yet: a name from where the `__init__` has it, a submodule, or else all of it."""
        if name in self._origins:
            module, original = self._origins[name]
            setattr(self, name, getattr(import_module(module), original))
        elif not name.startswith("__") and find_spec(f"{self.__name__}.{name}"):
            import_module(f"{self.__name__}.{name}")
        else:
            _run(self)
            return getattr(self, name)
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(name)  # a submodule that is just being imported; the import system knows what to do


def sdk() -> None:
    """Have the SDK's serializer importable without the SDK's client, from now on."""
    _defer("globus_compute_sdk")


@contextmanager
def parsl() -> Iterator[None]:
    """Have Parsl importable without all that it may need; for the imports themselves, which go on inside.

    Parsl has typeguard compile hundreds of functions anew, to check arguments that come from nobody but Parsl and from
    us, and that `construct` has checked. Afterwards typeguard is the real one.
    """
    for name in _FOR_PARSL:
        _defer(name)
    typeguard = sys.modules["typeguard"]
    spared = isinstance(typeguard, _Package) and "typechecked" not in vars(typeguard)
    if spared:
        vars(typeguard)["typechecked"] = lambda function: function
    try:
        yield
    finally:
        if spared:
            del vars(typeguard)["typechecked"]


def _defer(name: str) -> None:
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ImportError(f"No package {name}", name=name)
    package = module_from_spec(spec)
    package.__class__ = _Package
    package.__dict__["_origins"] = dict(_imported(Path(spec.origin), package))
    sys.modules[name] = package
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, package)


def _imported(init: Path, package: ModuleType) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the names that the package's code imports from modules at its top; `__all__` is set on the way."""
    for statement in ast.parse(init.read_bytes()).body:
        match statement:
            case ast.ImportFrom(module=str(module), names=names, level=0):
                for alias in names:
                    yield alias.asname or alias.name, (module, alias.name)
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() | ast.Tuple() as listed):
                vars(package)["__all__"] = ast.literal_eval(listed)


def _run(package: ModuleType) -> None:
    with _lock:
        if type(package) is _Package:
            package.__class__ = ModuleType  # type: ignore[assignment]
            spec = package.__spec__
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(package)
