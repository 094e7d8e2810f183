"""Who has signed, and what was refused, as log, audit and manager endpoint have it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, until
from endpoint_tasks import double
from manager_socket import ManagerSocket, states
from verified_rig import USER, Envelope, Host, Session, answer, refusal, submit

pytestmark = pytest.mark.system

UNSIGNED = "This endpoint runs only work that its user has signed, and this task isn't signed."


def signer(host: Host, session: Session) -> dict[str, str]:
    """The key and the delegation of a session of the user's."""
    return {"key": host.fingerprint("user"), "delegation": json.loads(session.delegation)["id"]}


def words(host: Host, session: Session, number: int) -> str:
    """How logs name a task."""
    found = signer(host, session)
    return f"key={found['key']} delegation={found['delegation']} number={number}"


def test_who_has_signed_is_in_the_log(verified: Callable[..., Running], home: Path, queues: Queues, host: Host) -> None:
    running = verified()
    session = host.session()
    envelope = session.task(double, 1, number=77)
    task = submit(queues, envelope)
    answer(home, queues, task, envelope)
    said = signer(host, session)
    by = f"key={said['key']} delegation={said['delegation']}"
    assert f"A delegation is accepted: account={USER} {by}" in running.log()
    assert f"The options of this endpoint were signed by {by}\n" in running.log()
    assert f"Accepted, signed by {by}: task {task} number=77\n" in running.log()


def test_who_has_signed_is_in_the_audit(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, control: ManagerSocket
) -> None:
    verified(audited=True, control="/nonexistent")
    session = host.session()
    envelope = session.task(double, 1)
    task = submit(queues, envelope)
    message = control.receive_anew("audit")
    assert states(message) == [f"RECEIVED - {words(host, session, 0)}", "EXEC_START"]
    assert all(f" tid={task} " in record for record in message["records"])
    control.confirm(message)
    assert answer(home, queues, task, envelope) == 2


def audited(queues: Queues, control: ManagerSocket, home: Path, envelope: Envelope) -> Any:
    """What a signed task returned; audit messages are confirmed meanwhile."""
    task = submit(queues, envelope)
    control.confirm(control.receive_anew("audit"))
    return answer(home, queues, task, envelope)


def test_a_refused_task_is_audited_before_it_is_answered(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, control: ManagerSocket
) -> None:
    """While the endpoint has no options; and is audited, with the reason, when it has some."""
    verified(audited=True)
    task = queues.submit(double, 1)
    message = control.receive_anew("audit")
    assert states(message) == ["RECEIVED", f"FAILED - It was refused: {UNSIGNED}"]
    assert all(f"fid=unknown tid={task} " in record for record in message["records"])
    control.send({"type": "unaudited", "number": message["number"]})
    assert control.receive("audit") == message, "it is asked for again, and the task waits"
    assert queues.waiting_results() == 0
    control.confirm(message)
    assert UNSIGNED in refusal(queues, task)
    session = host.session()
    assert audited(queues, control, home, session.task(double, 2)) == 4
    assert states(control.receive("audit")) == ["EXEC_END"]
    expired = session.task(double, 1, issued=1_600_000_000, expires=1_600_000_001)
    submit(queues, expired)
    [received, failed] = states(control.receive("audit"))
    assert (received, "FAILED - It was refused: The task expired" in failed) == ("RECEIVED", True)


def test_a_task_whose_options_make_no_endpoint_is_audited(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, control: ManagerSocket
) -> None:
    host.write("endpoint/user_config_template.yaml.j2", "engine: {type: Nonsense}")
    verified(audited=True)
    session = host.session()
    envelope = session.task(double, 1)
    task = submit(queues, envelope)
    message = control.receive_anew("audit")
    assert states(message) == [f"RECEIVED - {words(host, session, 0)}", "FAILED - It can't be started"]
    control.confirm(message)
    with pytest.raises(RuntimeError, match="The engine type 'Nonsense' is unknown"):
        answer(home, queues, task, envelope)


def test_the_manager_hears_what_it_waits_for_and_who_has_signed(
    verified: Callable[..., Running], queues: Queues, host: Host, control: ManagerSocket
) -> None:
    verified(control="/nonexistent")
    message = control.receive_anew("figures")
    assert (message["condition"], "signed" in message) == ("it waits for a task that its user has signed", False)
    assert control.receive("journal")["tasks"] == 0
    control.send({"type": "report"})
    assert control.receive_anew("figures")["figures"].keys() == {"memory_bytes", "cpu_percent", "processes"}
    session = host.session()
    submit(queues, session.task(double, 1))
    while control.receive("journal")["tasks"] != 1:  # so that another endpoint goes on with it
        continue
    while "total_workers" not in (message := control.receive_anew("figures"))["figures"]:
        continue
    assert message["signed"] == signer(host, session)


def test_the_manager_ends_an_endpoint_that_waits(
    verified: Callable[..., Running], queues: Queues, control: ManagerSocket
) -> None:
    running = verified()
    control.receive_anew("figures")
    control.send({"type": "end", "reason": "the administrator stopped it"})
    assert running.end().code == 0
    assert "Shutting down: the administrator stopped it" in running.log()
    assert queues.heartbeat(last=True)["heartbeat_period"] == 0


def test_a_flood_of_refusals_leaves_a_number(verified: Callable[..., Running], queues: Queues) -> None:
    """Some fifty lines a minute; it takes seconds, and for two minutes there is room."""
    running = verified()
    tasks = [queues.submit(double, 1) for _ in range(300)]
    for task in tasks:
        assert UNSIGNED in refusal(queues, task)
    log = running.log()
    assert f"Task {tasks[0]} is refused: {UNSIGNED}\n" in log
    assert 50 <= log.count(" is refused: ") <= 110


def test_messages_that_are_no_tasks_leave_a_number(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host
) -> None:
    """Before and after the endpoint has options."""
    running = verified()
    session = host.session()
    for _ in range(2):
        for _ in range(100):
            queues.publish(b"junk")
        until(lambda: queues.waiting_tasks() == 0)
        envelope = session.task(double, 1)
        assert answer(home, queues, submit(queues, envelope), envelope) == 2
    assert 2 <= running.log().count("A message of 4 bytes is no task; it is dropped") <= 6
