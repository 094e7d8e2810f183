"""What the client relies on: the SDK's private names, the versions that it is for, and what users need."""

import ast
import importlib.metadata
import inspect
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import twinlock_client
from globus_compute_common import messagepack
from globus_compute_sdk.sdk import batch, executor, shell_function
from globus_compute_sdk.sdk import client as sdk_client
from globus_compute_sdk.sdk.executor import Executor, _ResultWatcher
from globus_compute_sdk.serialize import PureSourceTextInspect, base, facade
from packaging.requirements import Requirement
from packaging.version import Version
from twinlock_client import functions, sdk, stub

ROOT = Path(__file__).parents[2]
PACKAGE = Path(twinlock_client.__file__).parent
PROJECT = tomllib.loads((ROOT / "client/pyproject.toml").read_text())["project"]
HOSTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted(PACKAGE.rglob("*.py"))


def reading(module: ModuleType) -> set[str]:
    """The functions of a module that could run what somebody has packed."""
    dangerous = {"deserialize", "unpack_and_deserialize", "exec", "eval", "import_module", "pickle", "dill"}
    found = set()
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(function, ast.FunctionDef):
            names = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
            names |= {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            found |= {function.name} if names & dangerous else set()
    return found


@pytest.mark.parametrize(
    ("module", "known"),
    [
        (executor, {"_load_tasks_status", "_match_results_to_futures"}),
        (sdk_client, {"_update_task_table"}),
        (batch, set()),
        (shell_function, set()),
        (messagepack.packer, set()),
        (messagepack.protocol_versions.proto1, set()),
    ],
)
def test_where_the_sdk_reads_what_it_gets(module: ModuleType, known: set[str]) -> None:
    """Those of the executor are replaced; the client's gets a serializer that reads JSON alone. Others would be new."""
    assert reading(module) == known


def test_the_sdks_executor_never_calls_its_own_reading_of_statuses_by_another_way() -> None:
    """`reload_tasks` and the watcher name the class, not the object, so both are replaced."""
    callers = {
        function.name
        for function in ast.walk(ast.parse(inspect.getsource(executor)))
        if isinstance(function, ast.FunctionDef)
        if any(isinstance(node, ast.Attribute) and node.attr == "_load_tasks_status" for node in ast.walk(function))
    }
    assert callers == {"reload_tasks", "_match_results_to_futures"}


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_what_is_overridden_is_called_so() -> None:
    assert parameters(getattr(Executor, "_submit_tasks"))[-2:] == ["futs", "tasks"]  # noqa: B009 - it is private
    assert parameters(getattr(Executor, "_get_result_watcher")) == ["self"]  # noqa: B009 - it is private
    assert parameters(Executor.register_function)[:3] == ["self", "fn", "function_id"]
    assert parameters(Executor.shutdown) == ["self", "wait", "cancel_futures"]
    assert parameters(_ResultWatcher.__init__)[:3] == ["self", "task_group_id", "client"]
    for name in ("_connect", "_start_consuming", "_match_results_to_futures"):
        assert parameters(getattr(_ResultWatcher, name)) == ["self"]
    assert len(parameters(getattr(_ResultWatcher, "_on_message"))) == 5  # noqa: B009 - it is private
    assert parameters(getattr(_ResultWatcher, "_on_channel_closed")) == ["self", "channel", "exc"]  # noqa: B009
    assert parameters(getattr(sdk_client.Client, "_update_task_table")) == ["self", "return_msg", "task_id"]  # noqa: B009
    for name in ("_log_version_mismatch", "_raise_ha_warning"):
        assert len(parameters(getattr(sdk_client.Client, name))) == 2


@pytest.mark.parametrize(
    "name", ["_stopped", "_task_submitter", "_submitter_thread_exception_captured", "_validated_result_serializers"]
)
def test_what_the_executor_uses_of_the_class_that_it_extends(name: str) -> None:
    nodes = ast.walk(ast.parse(inspect.getsource(Executor)))
    assert any(isinstance(node, ast.Attribute) and node.attr == name for node in nodes)


def test_source_code_is_packed_as_the_sdk_packs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_module.py").write_text("def triple(value):\n    return value * 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    triple = __import__("users_module").triple
    assert functions.pack_source(inspect.getsource(triple), "triple").buffer == PureSourceTextInspect().serialize(
        triple
    )


def test_the_stub_says_what_it_is_for() -> None:
    run = facade.ComputeSerializer().deserialize(functions.pack_source(stub.SOURCE, stub.NAME).buffer)
    with pytest.raises(RuntimeError, match="doesn't verify signed work, so nothing was run"):
        run("", "", "", "")


def test_each_strategy_has_a_known_form() -> None:
    """What `results.json_only` takes is JSON's alone: no other strategy has its identifier."""
    strategies = base.SerializationStrategy._CACHE  # noqa: SLF001 - there is no public list
    assert type(strategies["11\n"]).__name__ == "JSONData"


def requirement(name: str) -> Requirement:
    [found] = [each for each in map(Requirement, PROJECT["dependencies"]) if each.name == name]
    return found


def test_the_sdks_release_is_pinned_everywhere() -> None:
    pinned = requirement("globus-compute-sdk").specifier
    for extra in ("endpoint", "testbed"):
        assert f"globus-compute-sdk{pinned}" in [
            f"{each.name}{each.specifier}" for each in map(Requirement, HOSTS["optional-dependencies"][extra])
        ]
    assert sdk.check_release() in pinned
    for version in ("4.18.9", "4.20.0", "5.0.0"):
        assert version not in pinned
        assert not version.startswith(sdk.RELEASES)


def test_another_release_of_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.20.0")
    with pytest.raises(ImportError, match=r"globus-compute-sdk 4.20.0: this twinlock-client is for 4.19.x"):
        sdk.check_release()


def test_users_need_two_packages_and_one_of_four_pythons() -> None:
    assert {Requirement(each).name for each in PROJECT["dependencies"]} == {"globus-compute-sdk", "pynacl"}
    assert Version("3.10") in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert PROJECT["version"] == HOSTS["version"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_python_3_10_and_imports_what_users_have(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 10))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    # pika and globus-compute-common are the SDK's own dependencies.
    theirs = {"globus_compute_sdk", "globus_compute_common", "pika"}
    assert roots <= {"twinlock_client", "twinlock_signed", "nacl"} | theirs
    assert names.isdisjoint({f"twinlock_signed.{module}" for module in ("keys", "settings", "trusted", "verifier")})
    assert names.isdisjoint({"tomllib", "pickle", "dill"})
