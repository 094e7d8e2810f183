"""The queue of results: what of the service's URL is taken."""

import ssl

import pika
import pytest
from twinlock_client.sdk.amqp import parameters
from twinlock_signed.errors import Refused

EVIL = (
    "?ssl_options=%7B%27verify_mode%27%3A0%2C%27certfile%27%3A%27%2Fhome%2Fada%2F.ssh%2Fid%27%7D"
    "&heartbeat=0&blocked_connection_timeout=1&backpressure_detection=t"
)


def test_a_queue_that_is_reached_by_tls() -> None:
    made = parameters("amqps://ada%40x:p%2Fw@amqp.example.org:443/a%2Fb" + EVIL)
    assert (made.host, made.port, made.virtual_host) == ("amqp.example.org", 443, "a/b")
    assert (made.credentials.username, made.credentials.password) == ("ada@x", "p/w")
    context = made.ssl_options.context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.ssl_options.server_hostname == "amqp.example.org"
    assert made.heartbeat == pika.ConnectionParameters().heartbeat


def test_ports() -> None:
    assert parameters("amqps://a:b@amqp.example.org/").port == 5671
    assert parameters("amqps://a:b@amqp.example.org/", 443).port == 443
    assert parameters("amqp://a:b@localhost").port == 5672
    assert parameters("amqp://a:b@127.0.0.1:12345/", 443).port == 443


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_without_tls_on_this_computer_only(host: str) -> None:
    assert parameters(f"amqp://a:b@{host}:5672/%2F").virtual_host == "/"


@pytest.mark.parametrize("place", ["amqp.example.org/%1b%5d0;owned%07", "amqp.example.org/%E2%80%AE", "\x9bx/"])
def test_control_characters(place: str) -> None:
    """They would get into what pika logs, and so to the terminal."""
    with pytest.raises(Refused, match="a URL with control characters"):
        parameters(f"amqps://a:b@{place}")


@pytest.mark.parametrize(
    "url",
    [
        *("amqp://a:secret@amqp.example.org/", "amqp://a:secret@127.0.0.1.example.org/", "http://a:secret@localhost/"),
        *("amqps://", "", "amqps://a:secret@[/", "amqps://a:secret@host:port/", "amqp://a:secret@127.0.0.1@evil/"),
    ],
)
def test_other_urls(url: str) -> None:
    with pytest.raises(Refused, match="queue of results: the service says") as caught:
        parameters(url)
    assert "secret" not in str(caught.value)
