"""What is accepted as a start document, and what is said about the rest."""

import json
from typing import Any

import pytest
from twinlock_common.document import DocumentError, parse

PASSWORD = "a-secret"


def document(**changes: Any) -> dict[str, Any]:
    url = f"amqp://user:{PASSWORD}@127.0.0.1:1/vhost"
    publish = {"exchange": "results", "routing_key": "key", "mandatory": True, "properties": {"delivery_mode": 2}}
    destination = {"connection_url": url, "queue": "q", "exchange": "results", "queue_publish_kwargs": publish}
    creds = {
        "endpoint_id": "an-id",
        "task_queue_info": {"connection_url": url, "queue": "tasks"},
        "result_queue_info": destination,
        "heartbeat_queue_info": destination,
    }
    return {"amqp_creds": creds, "config": "engine: {}", "ep_info": {"posix_ppid": 1}, **changes}


def test_a_complete_document() -> None:
    told = parse(json.dumps(document(allowed_functions=["ABC"], environment={"A": "b"})).encode())
    assert (told.endpoint_id, told.queues.tasks.queue, told.queues.results.publish["exchange"]) == (
        "an-id",
        "tasks",
        "results",
    )
    assert (told.allowed_functions, told.environment, told.info) == (frozenset({"abc"}), {"A": "b"}, {"posix_ppid": 1})


def test_the_person_whom_batch_jobs_name_is_no_part_of_what_heartbeats_repeat() -> None:
    told = parse(json.dumps(document(ep_info={"posix_ppid": 1, "job_person": "ada@uni.example"})).encode())
    assert (told.job_person, told.info) == ("ada@uni.example", {"posix_ppid": 1})


def test_nobody_is_named_for_a_manager_endpoint_that_says_nothing() -> None:
    assert parse(json.dumps(document()).encode()).job_person is None


def test_the_request_that_it_is_for() -> None:
    """It is in an entry that endpoints of earlier versions accept, with whatever it has."""
    told = parse(json.dumps(document(ep_info={"posix_ppid": 1, "twinlock_request": "3f9a1c07"})).encode())
    assert (told.request, told.info) == ("3f9a1c07", {"posix_ppid": 1})


@pytest.mark.parametrize("info", [{}, {"twinlock_request": 7}, {"twinlock_request": "3f9a1c07\n"}])
def test_a_document_without_a_usable_request(info: dict[str, Any]) -> None:
    assert parse(json.dumps(document(ep_info=info)).encode()).request == ""


def test_no_repr_shows_the_password() -> None:
    assert PASSWORD not in repr(parse(json.dumps(document()).encode()))


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"text"', b"\xff\xfe"])
def test_not_a_json_object(raw: bytes) -> None:
    with pytest.raises(DocumentError, match="JSON"):
        parse(raw)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"amqp_creds": None}, "'amqp_creds' is a NoneType, not a dict"),
        ({"amqp_creds": {"endpoint_id": "x"}}, "no 'amqp_creds.task_queue_info'"),
        ({"config": {}}, "'config' is a dict, not a str"),
        ({"ep_info": []}, "'ep_info' is a list, not a dict"),
        ({"ep_info": {"job_person": 1}}, "'ep_info.job_person' is a int, not a str"),
        ({"allowed_functions": [1]}, "'allowed_functions' is not a list of strings"),
        ({"environment": {"A": 1}}, "environment variable 'A' can't be set"),
        ({"environment": {"A=B": "x"}}, "environment variable 'A=B' can't be set"),
        ({"control": None}, "'control' is a NoneType, not a str"),
        ({"audited": 1}, "'audited' is a int, not a bool"),
        ({"mem_fd": "3"}, "'mem_fd' is a str, not a int"),
        ({"enckey": 3}, "'enckey' is a int, not a str"),
        ({"confg": ""}, "unknown entry 'confg'; did you mean 'config'?"),
    ],
)
def test_each_fault_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(json.dumps(document(**changes)).encode())
    assert said in str(caught.value)


def test_publishing_options_are_checked_before_they_are_needed() -> None:
    told = document()
    told["amqp_creds"]["result_queue_info"]["queue_publish_kwargs"] = {"exchange": "e", "routingkey": "k"}
    with pytest.raises(DocumentError, match="did you mean 'routing_key'"):
        parse(json.dumps(told).encode())
