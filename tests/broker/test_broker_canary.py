"""`twinlock canary`: exit codes and line, as Nagios reads them, for all that may become of a task."""

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import placed_rig
import pytest
from broker_rest import Service
from broker_rig import MANAGER
from canary_rig import FUNCTION, LINE, CanaryService, CanarySite


@pytest.fixture
def site(placed: placed_rig.Site, service: Service) -> CanarySite:
    """A site whose service runs tasks."""
    return CanarySite(placed, CanaryService(service))


def test_a_result_is_ok_with_its_time(site: CanarySite) -> None:
    found = site.run()
    assert found.code == 0, found
    assert LINE.fullmatch(found.line.removesuffix("\n"))
    assert re.match(r"CANARY OK - result after \d+\.\d s; not in the metrics: .*no broker there", found.line)
    assert " | time=" in found.line
    assert found.line.endswith("s;30;60\n")
    assert found.errors == ""
    assert site.canary.service.logins[0]["grant_type"] == "client_credentials"
    (submitted,) = site.canary.submitted
    assert submitted["result_serializers"] == ["globus_compute_sdk.serialize.JSONData"], "nothing is unpickled"


def test_the_function_is_registered_once(site: CanarySite) -> None:
    assert [site.run().code for _ in range(2)] == [0, 0]
    assert len(site.canary.registered) == 1
    assert [list(one["tasks"]) for one in site.canary.submitted] == [[FUNCTION]] * 2
    assert json.loads((site.placed.state / "canary.json").read_text())["function"] == FUNCTION


def test_a_function_that_the_service_has_lost_is_registered_again(site: CanarySite) -> None:
    lost = "7b1f2f6e-0000-4000-8000-00000000dead"
    site.run()
    known = site.placed.state / "canary.json"
    known.write_text(known.read_text().replace(FUNCTION, lost))
    site.canary.service.statuses = {f"/v2/functions/{lost}": 404}
    refused = iter([403, 200])
    status = site.canary.service.statuses
    submit = f"/v3/endpoints/{MANAGER}/submit"
    status[submit] = next(refused)
    answers = site.canary.service.answers

    def register(body: Any) -> Any:
        status[submit] = next(refused)
        return {"function_uuid": FUNCTION}

    answers["/v3/functions"] = register
    assert site.run().code == 0
    assert json.loads(known.read_text())["function"] == FUNCTION


def test_a_late_result_is_a_warning(site: CanarySite) -> None:
    found = site.run("-w", "0.01", "-c", "50")
    assert (found.code, found.line[:16]) == (1, "CANARY WARNING -")
    assert found.line.endswith("s;0.01;50\n")


def test_a_wait_without_end_is_ended(site: CanarySite) -> None:
    site.canary.pending = 10**9
    began = time.monotonic()
    found = site.run("-w", "1", "-c", "2")
    assert time.monotonic() - began < 60
    assert found.code == 2
    said = "CANARY CRITICAL - waiting at the service (the task is waiting-for-ep): no result within 2 s; "
    assert found.line.startswith(f"{said}the manager endpoint is offline")


def test_a_service_that_never_answers_is_waited_for_no_longer(site: CanarySite) -> None:
    gone = threading.Event()
    site.canary.service.answers[f"/v3/endpoints/{MANAGER}/submit"] = lambda _: gone.wait(120)
    found = site.run("-w", "1", "-c", "2")
    gone.set()
    assert (found.code, found.line.partition(";")[0]) == (2, "CANARY CRITICAL - submission: no result within 2 s")


def test_the_error_that_users_get_is_told(site: CanarySite) -> None:
    site.canary.result = lambda _: {"exception": "None of your identities maps to an account of this site: c@x."}
    found = site.run()
    assert found.code == 2
    assert found.line.startswith("CANARY CRITICAL - endpoint: None of your identities maps to an account of this site")
    assert LINE.fullmatch(found.line.removesuffix("\n"))


@pytest.mark.thorough
def test_an_answer_takes_no_more_memory_than_is_allowed(site: CanarySite) -> None:
    site.canary.service.answers["/v2/tasks/"] = lambda _: "x" * (300 << 20)
    found = site.run("-c", "50")
    assert found.code == 2
    assert found.line.startswith("CANARY CRITICAL - waiting at the service: an answer is too large")


def test_the_step_that_the_service_refuses_is_named(site: CanarySite) -> None:
    site.canary.service.statuses = {f"/v3/endpoints/{MANAGER}/submit": 403}
    found = site.run()
    assert found.code == 2
    assert found.line.startswith("CANARY CRITICAL - submission: refused (403")


def test_a_service_that_is_away_is_critical(site: CanarySite) -> None:
    site.canary.service.stop()
    found = site.run("-c", "50")
    assert (found.code, found.line[:24]) == (2, "CANARY CRITICAL - login:")


def test_a_login_that_is_refused_is_unknown(site: CanarySite) -> None:
    site.canary.service.token_status, site.canary.service.tokens = 401, {"error": "invalid_client"}
    found = site.run()
    assert found.code == 3
    assert found.line.startswith("CANARY UNKNOWN - login: refused (401")
    assert "correct the login in the canary's file" in found.line


def test_a_missing_file_is_unknown(site: CanarySite) -> None:
    found = site.run(config=site.placed.etc / "nothing.yaml")
    assert (found.code, "nothing.yaml: can't be read: No such file" in found.line) == (3, True)


def test_a_token_is_for_the_local_service(site: CanarySite) -> None:
    site.configure("token: a-token\n")
    found = site.run()
    assert (found.code, "a token is for the local service" in found.line) == (3, True)
    assert site.canary.service.asked == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_talks_to_no_service(site: CanarySite) -> None:
    done = site.placed.twinlock("canary", "--config", site.file, site.placed.endpoint)
    assert (done.returncode, done.stdout[:38]) == (3, "CANARY UNKNOWN - root talks to no serv")


def test_an_endpoint_that_was_never_registered_is_unknown(site: CanarySite) -> None:
    (site.placed.state / "endpoint.json").unlink()
    found = site.run()
    assert found.code == 3
    assert "the broker has never registered this endpoint" in found.line


def test_the_options_are_those_of_the_file_or_of_the_command_line(site: CanarySite, tmp_path: Path) -> None:
    site.configure(site.file.read_text() + "options: {account_id: monitoring}\n")
    options = site.placed.etc / "options.json"
    options.write_text('{"account_id": "debug"}')
    options.chmod(0o644)
    assert [site.run().code, site.run("--options", options).code] == [0, 0]
    given = [one["user_endpoint_config"] for one in site.canary.submitted]
    assert given == [{"account_id": "monitoring"}, {"account_id": "debug"}]


@pytest.mark.parametrize("words", [("-w", "soon"), ("-c", "-1"), ("-c", "inf")])
def test_a_wrong_limit_is_a_usage_error(site: CanarySite, words: tuple[str, ...]) -> None:
    assert site.run(*words).code == 100
