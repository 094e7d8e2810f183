"""Credentials of queues: what is taken, and that a refusal shows none of them."""

from typing import Any

import pytest
from twinlock_common.queues import Destination, Source, read_destination, read_source

URL = "amqps://user:a-secret@rabbit.example:5671/vhost"
PUBLISH = {"exchange": "results", "routing_key": "key", "mandatory": True, "properties": {"delivery_mode": 2}}


def test_a_queue_to_consume_from() -> None:
    assert read_source({"connection_url": URL, "queue": "tasks", "more": 1}) == Source(URL, "tasks")


@pytest.mark.parametrize("exchange", ["results", ""])
def test_where_to_publish(exchange: str) -> None:
    publish = PUBLISH | {"exchange": exchange}
    assert read_destination({"connection_url": URL, "queue_publish_kwargs": publish}) == Destination(URL, publish)


def test_no_repr_shows_the_password() -> None:
    assert "a-secret" not in repr((Source(URL, "tasks"), Destination(URL, PUBLISH)))


@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "",
        "rabbit.example",
        "https://user:a-secret@rabbit.example/",
        "amqps://user:a-secret@",
        "amqps://user:a-secret@rabbit.example:a-secret/",
        "amqps://user:a-secret@[rabbit/",
        URL + "x" * 4096,
    ],
)
def test_an_address_that_isnt_amqps(url: object) -> None:
    with pytest.raises(ValueError, match=r"^connection_url is") as refused:
        read_source({"connection_url": url, "queue": "tasks"})
    assert "a-secret" not in str(refused.value)


@pytest.mark.parametrize("name", [None, 7, "", "q" * 256, "ä" * 128, ["q"]])
def test_a_name_that_amqp_doesnt_have(name: object) -> None:
    with pytest.raises(ValueError, match=r"^queue is missing or isn't a short text$"):
        read_source({"connection_url": URL, "queue": name})
    with pytest.raises(ValueError, match=r"^routing_key is missing or isn't a short text$"):
        read_destination({"connection_url": URL, "queue_publish_kwargs": PUBLISH | {"routing_key": name}})


@pytest.mark.parametrize("info", [None, [], "text", {}, {"connection_url": URL}])
def test_what_is_no_credential_at_all(info: Any) -> None:
    for read in (read_source, read_destination):
        with pytest.raises(ValueError, match="is missing or isn't a"):
            read(info)
