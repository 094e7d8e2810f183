"""TLS by a certificate that is given: what it protects, what is refused at the start, and its renewal."""

import asyncio
import http.client
import os
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from service_rig import ALICE, TOKENS, URL, Service, bearer, free_port, users_file
from site_rig import eventually
from twinlock_service.http_server import connections
from twinlock_service.http_server.certificate import Certificate
from twinlock_service.http_server.listening import listen

NAME = "compute.site.example"
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH


def make_certificate(
    folder: Path, name: str = "cert", days: int = 30, use: ObjectIdentifier = SERVER_AUTH, passphrase: bytes = b""
) -> tuple[Path, Path]:
    """A certificate that is its own issuer, good from 60 days ago and for so many `days` from now, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    secret = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]), datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, secret.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=60)).not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    certificate.write_bytes(builder.sign(secret, SHA256()).public_bytes(Encoding.PEM))
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    key.touch(mode=0o600)
    key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return certificate, key


def start(folder: Path, certificate: Path | None, key: Path) -> subprocess.CompletedProcess[str]:
    """A start that ends at once, at the latest since there is no RabbitMQ."""
    settings = {"tls_certificate": certificate and str(certificate), "tls_key": str(key)}
    users = users_file(folder / "users.yaml", service=settings, rabbitmq={"user": "admin", "password": "sesame"})
    argv: list[str | Path] = [sys.executable, "-m", "twinlock_service", "--state", folder / "state", "--users", users]
    argv += ["--amqp", "amqps://127.0.0.1:1/v"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_a_good_pair_is_taken_and_an_encrypted_rabbitmq_managed_encrypted(tmp_path: Path) -> None:
    shown = start(tmp_path, *make_certificate(tmp_path))
    assert shown.returncode == os.EX_UNAVAILABLE
    assert "127.0.0.1:15671 can't be reached" in shown.stderr


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("absent", os.EX_NOINPUT, "absent.pem, named by the users file for TLS: No such file"),
        ("key of another", os.EX_DATAERR, "doesn't belong to tls_certificate"),
        ("no PEM", os.EX_DATAERR, "have to be PEM files"),
        ("open key", os.EX_NOPERM, "chmod 600"),
        ("passphrase", os.EX_DATAERR, "passphrase"),
        ("expired", os.EX_DATAERR, "certificate has expired"),
        ("client's", os.EX_DATAERR, "clients would refuse"),
        ("key alone", os.EX_DATAERR, "set both or none"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said_at_the_start(tmp_path: Path, kind: str, code: int, reason: str) -> None:
    certificate, key = unusable(tmp_path, kind)
    shown = start(tmp_path, certificate, key)
    assert shown.returncode == code
    assert reason in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


def unusable(folder: Path, kind: str) -> tuple[Path | None, Path]:
    """A pair with this fault."""
    certificate, key = make_certificate(folder)
    match kind:
        case "absent":
            return folder / "absent.pem", key
        case "key of another":
            return certificate, make_certificate(folder, name="other")[1]
        case "no PEM":
            certificate.write_text("a certificate")
        case "open key":
            key.chmod(0o644)
        case "passphrase":
            return make_certificate(folder, passphrase=b"sesame")
        case "expired":
            return make_certificate(folder, days=-1)
        case "client's":
            return make_certificate(folder, use=CLIENT_AUTH)
        case "key alone":
            return None, key
    return certificate, key


@pytest.fixture(scope="module")
def encrypted(folder: Path) -> Iterator[tuple[Service, int]]:
    """A service with a certificate, and the port where HTTPS is."""
    certificate, key = make_certificate(folder)
    port = free_port()
    settings = {"tls_certificate": str(certificate), "tls_key": str(key), "tls_port": port, "hosts": [NAME]}
    users_file(folder / "users.yaml", service=settings)
    service = Service(folder)
    service.start()
    yield service, port
    service.stop()


def get(port: int, trusted: Path, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """What the service answers to a client that trusts a certificate, and knows the service by its name."""
    context = ssl.create_default_context(cafile=trusted)
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
    plain = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sock = context.wrap_socket(plain, server_hostname=NAME)
    body = f"token={TOKENS[ALICE]}" if method == "POST" else None
    content = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
    connection.request(method, path, body, {"Host": f"{NAME}:{port}", **content, **headers})
    return connection.getresponse()


@pytest.mark.thorough
@pytest.mark.system
def test_a_client_that_trusts_the_certificate_is_served(encrypted: tuple[Service, int]) -> None:
    service, port = encrypted
    assert f"and https://127.0.0.1:{port}" in service.daemon.output()
    answer = get(port, service.folder / "cert.pem", "/v2/endpoints", **bearer(TOKENS[ALICE]))
    assert (answer.status, answer.read()) == (200, b"[]")
    with urllib.request.urlopen(f"{URL}/v2/version", timeout=60) as plain:
        assert plain.status == 200, "the SDK speaks HTTP to localhost"


async def test_who_never_agrees_on_tls_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_OF_PEER", 10)
    certificate = Certificate(*make_certificate(tmp_path))
    runner, port = connections.Runner(web.Application(), shutdown_timeout=1), free_port()
    await runner.setup()
    await listen(runner, "127.0.0.1", free_port(), port, certificate)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
    ended = [asyncio.wait_for(reader.read(), 60) for reader, _ in silent[:20]]
    await asyncio.gather(*ended, return_exceptions=True)
    answer = await asyncio.to_thread(get, port, tmp_path / "cert.pem", "/")
    assert answer.status == 404
    for _, writer in silent:
        writer.close()
    await runner.cleanup()


async def test_tls_is_agreed_on_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    certificate = Certificate(*make_certificate(tmp_path))
    runner, port = connections.Runner(web.Application(), shutdown_timeout=1), free_port()
    await runner.setup()
    await listen(runner, "127.0.0.1", free_port(), port, certificate)
    for sent in (b"", b"\x16\x03\x01"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
    await runner.cleanup()


@pytest.mark.thorough
@pytest.mark.system
def test_the_pages_cookie_is_never_sent_in_the_clear(encrypted: tuple[Service, int]) -> None:
    service, port = encrypted
    answer = get(port, service.folder / "cert.pem", "/login", "POST", Origin=f"https://{NAME}:{port}")
    cookie = answer.headers["Set-Cookie"]
    assert answer.status == 303
    assert cookie.startswith("__Host-")
    assert "; Secure" in cookie
    name = cookie.partition(";")[0]
    shown = get(port, service.folder / "cert.pem", "/", Cookie=name).read().decode()
    assert ALICE in shown


@pytest.mark.thorough
@pytest.mark.system
def test_a_renewed_certificate_is_used_without_a_restart(encrypted: tuple[Service, int], tmp_path: Path) -> None:
    service, port = encrypted
    certificate, key = service.folder / "cert.pem", service.folder / "cert.key"
    former = tmp_path / "former.pem"
    former.write_bytes(certificate.read_bytes())
    certificate.write_text("nonsense")
    service.daemon.wait_for_line("the previous certificate stays in use", 180)
    assert get(port, former, "/v2/version").status == 200
    renewed = make_certificate(tmp_path, name="renewed")
    for new, old in zip(reversed(renewed), (key, certificate), strict=True):
        beside = old.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_bytes(new.read_bytes())
        beside.replace(old)
    assert eventually(lambda: trusts(port, renewed[0]), 180)
    assert not trusts(port, former)


def trusts(port: int, certificate: Path) -> bool:
    """Whether a client that trusts this certificate alone gets an answer."""
    try:
        return get(port, certificate, "/v2/version").status == 200
    except ssl.SSLCertVerificationError:
        return False


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)])
async def test_beyond_loopback_plain_http_is_warned_of(
    host: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    runner = connections.Runner(web.Application(), shutdown_timeout=1)
    await runner.setup()
    try:
        port = free_port()
        assert await listen(runner, host, port, 5443, None) == [f"http://{host}:{port}"]
    finally:
        await runner.cleanup()
    assert ("set tls_certificate and tls_key" in caplog.text) is warned


async def test_with_a_certificate_plain_http_stays_on_this_host(tmp_path: Path) -> None:
    runner = connections.Runner(web.Application(), shutdown_timeout=1)
    await runner.setup()
    try:
        port, tls_port = free_port(), free_port()
        urls = await listen(runner, "0.0.0.0", port, tls_port, Certificate(*make_certificate(tmp_path)))
        assert urls == [f"http://127.0.0.1:{port}", f"https://0.0.0.0:{tls_port}"]
    finally:
        await runner.cleanup()
