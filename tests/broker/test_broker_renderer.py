"""Rendering in a process of its own: no template and no option holds up, blows up or outlives its limit."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from broker_rig import TEMPLATE
from twinlock_broker.errors import CommandError
from twinlock_broker.rendering.renderer import Renderer
from twinlock_common.account import Account
from twinlock_common.rendering import request_line, template
from twinlock_common.rendering.configuration import Request
from twinlock_common.rendering.reserved import Reserved

RESERVED = Reserved(
    {"heartbeat_period": 30.0, "user_config_template_path": Path("t.j2")},
    {"python": {"version": "3.11.2"}},
    Account("ada", 1234, 100, (100,), "Ada", "/bin/bash", "/home/ada"),
    "some-uuid",
    {"HOME": "/home/ada"},
)
ENGINE = "engine: {type: ThreadPoolEngine}\n"


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer()
    yield made
    made.close()


def request(text: str, schema: dict[str, Any] | None = None, **options: Any) -> Request:
    """For a template that includes nothing."""
    return Request(text, Path("/nonexistent"), schema, options, RESERVED)


def workers() -> list[psutil.Process]:
    """The rendering processes of this one."""
    return [child for child in psutil.Process().children() if "twinlock_common.rendering.worker" in child.cmdline()]


def test_it_renders_as_in_this_process(renderer: Renderer) -> None:
    text = TEMPLATE + "\nx: {{ _GC.user_runtime.python.version }}\ny: {{ _GC.parent_config.heartbeat_period }}\n"
    made = yaml.safe_load(renderer.render(request(text, account_id="phys-1")))
    assert made["engine"]["provider"]["account"] == "phys-1"
    assert (made["x"], made["y"]) == ("3.11.2", 30)


def test_a_folder_by_a_relative_path(renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part.j2").write_text(ENGINE)
    monkeypatch.chdir(tmp_path)
    assert "ThreadPoolEngine" in renderer.render(replace(request("{% include 'part.j2' %}"), folder=Path()))


def test_a_worker_whose_broker_is_gone_ends_without_a_word() -> None:
    """Its stderr is the broker's log."""
    command = [sys.executable, "-m", "twinlock_common.rendering.worker"]
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        command,
        input=request_line.dump(request(ENGINE)),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (-signal.SIGPIPE, b"")


def test_a_loop_without_end_is_killed_and_the_next_call_served(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "MAX_SECONDS", 1.0)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + ENGINE
    with pytest.raises(CommandError, match="took over"):
        renderer.render(request(loop))
    assert not workers()
    monkeypatch.undo()  # another process takes a moment to start
    assert yaml.safe_load(renderer.render(request(ENGINE)))


@pytest.mark.cases(1)
@pytest.mark.parametrize("text", ["{{ 'x' * n }}", "{{ 9 ** n }}", "{% set x = ['y'] * n %}{{ x | length }}"])
def test_memory_is_limited(renderer: Renderer, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(template, "MAX_SECONDS", 2.0)
    with pytest.raises(CommandError):
        renderer.render(request(text, n=1 << 33))
    monkeypatch.undo()
    assert yaml.safe_load(renderer.render(request(ENGINE)))


@pytest.mark.thorough
def test_a_schema_whose_pattern_explodes_is_ended_too(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAX_SECONDS", 1.0)
    schema = {"properties": {"a": {"pattern": "^(x+)+$"}}}
    with pytest.raises(CommandError, match="took over"):
        renderer.render(request(ENGINE, schema, a="x" * 60 + "!"))


def test_what_the_site_refuses_is_said(renderer: Renderer) -> None:
    with pytest.raises(CommandError, match="schema"):
        renderer.render(request(ENGINE, {"required": ["a"]}))
    with pytest.raises(CommandError, match="high_assurance"):
        renderer.render(request(ENGINE + "high_assurance: true"))
    with pytest.raises(CommandError, match="needs the option 'a'"):
        renderer.render(request("a: {{ a }}"))


def test_a_worker_is_used_again_and_sees_no_environment(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "hush")
    renderer.render(request(ENGINE))
    (first,) = workers()
    assert "GLOBUS_COMPUTE_CLIENT_SECRET" not in first.environ()
    renderer.render(request(ENGINE))
    assert [worker.pid for worker in workers()] == [first.pid]
    os.kill(first.pid, 9)
    first.wait()
    assert renderer.render(request(ENGINE))


def test_the_place_of_an_error_comes_out_of_the_process(renderer: Renderer) -> None:
    with pytest.raises(CommandError) as failed:
        renderer.render(replace(request("a: 1\nb: {{ x }\n"), name="/ep/t.j2"))
    assert failed.value.detail == "/ep/t.j2, line 2: unexpected '}': b: {{ x }"
    assert "/ep" not in failed.value.text


def test_what_a_client_says_of_its_runtime_is_a_value_too(renderer: Renderer) -> None:
    text = "engine: {type: X, version: '{{ _GC.user_runtime.python.version }}', nodes: 1}\n"
    asked = replace(RESERVED, runtime={"python": {"version": "', nodes: 100, z: '"}})
    with pytest.raises(CommandError, match="would be more than a value"):
        renderer.render(replace(request(text), reserved=asked))
