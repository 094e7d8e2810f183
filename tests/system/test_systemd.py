"""The services as a site installs them: Debian packages, with apt, under systemd; and what systemd may do to them.

One container for all tests, each of which leaves it as it found it; only the last removes the packages.
"""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from container import ContainerError
from packaged_site import SPAWNER, USERS, Site, make_endpoint, packaged_site
from site_rig import RESULT_TIMEOUT, eventually
from twinlock_testbed.scripts import Outcome
from twinlock_testbed.service import Login
from twinlock_testbed.users import throw_away

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
ADA, BOB = USERS
UNITS = ("twinlock-spawner", "twinlock-broker", "twinlock-service")
BROKER_EXPOSURE = 1.5


@pytest.fixture(scope="module")
def site(prefix: Path, folder: Path) -> Iterator[Site]:
    """The site; what its services said last is printed at the end.

    It has this machine's release of Debian, or the one that TWINLOCK_DEBIAN names.
    """
    other = os.environ.get("TWINLOCK_DEBIAN")
    tree = prefix / (f"debian-tree-{other}" if other else "debian-tree")
    debs = ROOT / "build" / (other or "") / "deb"
    if shutil.which("systemd-nspawn") is None or not (tree / ".complete").exists() or not list(debs.glob("*.deb")):
        pytest.skip(f"needs systemd-nspawn, a Debian in {tree} and packages in {debs}; `make system-test` makes them")
    with packaged_site(prefix, debs, tree, folder) as made:
        yield made
        print(made.journal())


def _good(site: Site, user: str, outcomes: list[Outcome], count: int) -> list[int]:
    """Check that so many tasks ran as that user; the pids of the processes that ran them."""
    assert [outcome.error for outcome in outcomes] == [None] * count
    assert {outcome.result["uid"] for outcome in outcomes if outcome.result} == {site.uid(user)}
    return [outcome.result["pid"] for outcome in outcomes if outcome.result]


def _answers(site: Site) -> None:
    """A new configuration's task, so a new endpoint, through all services."""
    name = f"new-{len(list((site.box.root / f'home/{ADA}').glob('.globus_compute/uep.*')))}"
    _good(site, ADA, site.run(ADA, name), 1)


def test_the_containers_accounts_are_not_the_testbeds(site: Site) -> None:
    """An account's processes are told by their uid, when it is removed as well, and the container's are to be seen."""
    with throw_away("twl-user") as user, throw_away("twl-system", system=True) as system:
        lines = (site.box.root / "etc/passwd").read_text().splitlines()
        assert {user.pw_uid, system.pw_uid}.isdisjoint(int(line.split(":")[2]) for line in lines)


def test_units_are_in_order(site: Site) -> None:
    """Nothing to warn of, and an exposure of the broker that its budget allows; the figures are printed."""
    files = sorted((ROOT / "packaging/systemd").iterdir())
    units = [f"/lib/systemd/system/{path.name}" for path in files]
    verified = site.box.attempt("systemd-analyze", "verify", "--man=no", *units)
    assert (verified.stdout + verified.stderr, verified.returncode) == ("", 0)
    for unit in [unit for unit in units if unit.endswith(".service")]:
        table = site.box.attempt("systemd-analyze", "security", "--no-pager", "--offline=true", unit)
        exposure = float(re.findall(r"exposure level for .*?: ([\d.]+)", table.stdout)[0])
        print(f"exposure of {Path(unit).name}: {exposure}")
        if "broker" in unit:
            assert exposure <= BROKER_EXPOSURE, table.stdout


def test_the_job_for_two_users(site: Site) -> None:
    scripts = site.script(ADA, "one", "two", tasks=2), site.script(BOB, "one", tasks=2)
    _good(site, ADA, scripts[0].outcomes(RESULT_TIMEOUT), 4)
    _good(site, BOB, scripts[1].outcomes(RESULT_TIMEOUT), 2)
    cgroups = {path.name for path in (site.box.root / "sys/fs/cgroup" / SPAWNER).glob("*/*/*/")}
    assert len(cgroups) >= 3, "each endpoint has a cgroup of its own below the unit's"


def test_an_endpoint_has_what_the_policy_says_and_nothing_of_the_unit(site: Site) -> None:
    _answers(site)
    pid = site.endpoints()[0]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "0")
    assert {
        name: int(status[name], 16) for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")
    } == dict.fromkeys(("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb"), 0)
    for kind in ("mnt", "net", "pid", "ipc", "user", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/{site.box.leader}/ns/{kind}")
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "0\n"


def test_the_spawner_runs_what_debian_signed_and_ours(site: Site) -> None:
    """What it has mapped is from Debian's folders."""
    pid = site.main_pid("twinlock-spawner")
    mapped = set(re.findall(r"/\S+$", site.box.run("cat", f"/proc/{pid}/maps"), re.MULTILINE))
    assert all(path.startswith(("/usr/bin/", "/usr/lib/")) for path in mapped), mapped
    packages = [path for path in mapped if "dist-packages" in path]
    assert site.box.run("dpkg-query", "--search", *packages).startswith("python3-prctl: "), "and msgpack is pure Python"


def test_a_restart_of_the_broker_under_load_loses_nothing(site: Site) -> None:
    _good(site, ADA, site.run(ADA, "kept"), 1)
    before, broker = set(site.endpoints()), site.main_pid("twinlock-broker")
    scripts = [site.script(ADA, "kept", tasks=5, seconds=1), site.script(BOB, "fresh", tasks=5)]
    site.box.run("systemctl", "restart", "twinlock-broker", timeout=600)
    scripts.append(site.script(ADA, "kept", tasks=5))
    assert site.main_pid("twinlock-broker") != broker
    for user, script in zip((ADA, BOB, ADA), scripts, strict=True):
        _good(site, user, script.outcomes(RESULT_TIMEOUT), 5)
    assert before <= set(site.endpoints())


def test_a_reload_of_the_spawner_under_load_ends_no_endpoint(site: Site) -> None:
    _good(site, ADA, site.run(ADA, "kept"), 1)
    before, spawner, starts = set(site.endpoints()), site.main_pid("twinlock-spawner"), _starts(site)
    scripts = [site.script(ADA, "kept", tasks=5, seconds=1), site.script(BOB, "fresher", tasks=5)]
    site.box.run("systemctl", "reload", "twinlock-spawner")
    for user, script in zip((ADA, BOB), scripts, strict=True):
        _good(site, user, script.outcomes(RESULT_TIMEOUT), 5)
    assert eventually(lambda: _starts(site) == starts + 1, 180)
    assert before <= set(site.endpoints())
    assert site.main_pid("twinlock-spawner") == spawner


def _starts(site: Site) -> int:
    """How often the spawner has started, or started over."""
    whole, _, _ = (site.box.root / "var/log/twinlock/audit.log").read_text().rpartition("\n")  # the last may be half
    return sum(json.loads(line)["event"] == "started" for line in whole.splitlines())


def test_a_reload_with_a_wrong_policy_is_refused(site: Site) -> None:
    policy = site.box.root / "etc/twinlock/spawner.toml"
    good = policy.read_text()
    before = site.endpoints()
    policy.write_text("no_such_key = 1\n" + good)
    try:
        with pytest.raises(ContainerError):
            site.box.run("systemctl", "reload", "twinlock-spawner")
    finally:
        policy.write_text(good)
    assert eventually(lambda: "no_such_key" in site.journal(), 180)
    assert site.endpoints() == before


@pytest.mark.cases(2)
@pytest.mark.parametrize("unit", UNITS)
def test_what_is_killed_is_started_again(site: Site, unit: str) -> None:
    before = site.main_pid(unit)
    site.box.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", unit)
    assert eventually(lambda: _restarted(site, unit, before), 180)
    if unit == "twinlock-service":
        assert eventually(lambda: site.box.attempt("python3", "-c", _CONNECT).returncode == 0, 180)
    _answers(site)


def _restarted(site: Site, unit: str, before: int) -> bool:
    return site.main_pid(unit) not in (0, before) and site.active(unit)


_CONNECT = "import socket; socket.create_connection(('localhost', 5000))"


@pytest.mark.thorough
def test_a_broker_that_hangs_is_started_again(site: Site) -> None:
    before, endpoints = site.main_pid("twinlock-broker"), set(site.endpoints())
    site.box.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "twinlock-broker")
    assert eventually(lambda: _restarted(site, "twinlock-broker", before), 180)
    assert endpoints <= set(site.endpoints())
    _answers(site)


@pytest.mark.thorough
def test_an_upgrade_under_load_keeps_the_endpoints(site: Site) -> None:
    _good(site, ADA, site.run(ADA, "kept"), 1)
    pids = {unit: site.main_pid(unit) for unit in UNITS}
    before, starts = set(site.endpoints()), _starts(site)
    newer = site.box.run("dpkg-query", "--show", "--showformat=${Version}+1", "twinlock")
    site.offer(newer)
    scripts = [site.script(ADA, "kept", tasks=5, seconds=2), site.script(BOB, "freshest", tasks=5)]
    site.box.run("apt-get", "dist-upgrade", "--yes", timeout=600)
    assert site.box.run("dpkg-query", "--show", "--showformat=${Version} ", "twinlock*").split() == [newer] * 5
    for user, script in zip((ADA, BOB), scripts, strict=True):
        _good(site, user, script.outcomes(RESULT_TIMEOUT), 5)
    assert before <= set(site.endpoints())
    assert site.main_pid("twinlock-spawner") == pids["twinlock-spawner"]
    assert eventually(lambda: _starts(site) == starts + 1, 180)
    assert site.main_pid("twinlock-broker") != pids["twinlock-broker"]
    _answers(site)


def test_logs_are_rotated_whatever_the_policy_says(site: Site) -> None:
    policy = site.box.root / "etc/twinlock/spawner.toml"
    log = site.box.root / "var/log/twinlock/audit.log"
    good = policy.read_text()
    policy.write_text("no_such_key = 1\n" + good)
    try:
        site.box.run("logrotate", "--force", "/etc/logrotate.d/twinlock-spawner")
        assert not log.exists()
        _answers(site)
    finally:
        policy.write_text(good)
    assert '"spawned"' in log.read_text()
    assert log.with_name("audit.log.1").exists()


def test_a_spawner_typed_by_hand_beside_the_service(site: Site) -> None:
    """It says who is in the way, and neither the endpoints nor the service notice."""
    _answers(site)
    before, main = site.endpoints(), site.show("twinlock-spawner", "MainPID")
    typed = site.box.attempt("twinlock-spawner", "--policy", "/etc/twinlock/spawner.toml")
    assert typed.returncode == os.EX_TEMPFAIL
    assert "/run/twinlock/spawner.sock.lock is locked by " in typed.stderr
    assert (site.endpoints(), site.show("twinlock-spawner", "MainPID")) == (before, main)
    _answers(site)


def test_a_stop_of_the_spawner_leaves_no_process(site: Site) -> None:
    """The endpoints end in order, not killed, and the broker's next attempt doesn't start it again.

    They have as much time for that as the unit leaves to the spawner: they all end at once, on a machine that is busy.
    """
    policy, starts = site.box.root / "etc/twinlock/spawner.toml", _starts(site)
    good = policy.read_text()
    policy.write_text(good.replace("stop_grace = 10.0\n", "stop_grace = 110.0\n"))
    assert policy.read_text() != good
    site.box.run("systemctl", "reload", "twinlock-spawner")
    assert eventually(lambda: _starts(site) == starts + 1, 180)
    policy.write_text(good)
    _answers(site)
    assert site.endpoints()
    site.box.run("systemctl", "stop", "twinlock-spawner", timeout=600)
    assert site.box.processes(SPAWNER) == []
    assert not {site.uid(user) for user in USERS} & site.uids()
    lines = (site.box.root / "var/log/twinlock/audit.log").read_text().splitlines()
    ends = [json.loads(line) for line in lines if '"exited"' in line]
    assert [end["status"] for end in ends if end["status"] == signal.SIGKILL] == []
    assert site.active("twinlock-broker")
    assert not site.active("twinlock-spawner.socket")
    site.box.run("systemctl", "start", "twinlock-spawner")
    _answers(site)


@pytest.mark.thorough
def test_a_second_manager_endpoint_beside_the_first(site: Site) -> None:
    """By the recipe in the manual: commands, and what its policy has instead of the first one's values."""
    commands, policy = re.findall(r"```(?:toml)?\n(.*?)```", (ROOT / "docs/several.md").read_text(), re.DOTALL)[:2]
    made = "/etc/twinlock/instances/gpu"
    for command in commands.splitlines():
        if not command.startswith("twinlock configure"):
            site.box.run("sh", "-euc", command)
    for line in policy.splitlines():
        site.box.run("sed", "-i", f"s|^{line.partition(' = ')[0]} = .*|{line}|", f"{made}/spawner.toml")
    make_endpoint(site, made, Login(*_login(site)))
    site.box.run("systemctl", "start", "twinlock-broker@gpu", timeout=600)
    _good(site, BOB, site.run(BOB, "second", instance="gpu"), 1)
    assert site.endpoints("twinlock.slice/twinlock-spawner@gpu.service")
    site.box.run("systemctl", "stop", "twinlock-spawner@gpu", "twinlock-broker@gpu", timeout=600)


def test_an_instance_with_the_cgroup_of_another_is_refused(site: Site) -> None:
    """It would end the other's endpoints."""
    _answers(site)
    before = site.endpoints()
    (site.box.root / "etc/twinlock/instances/bad").mkdir(parents=True)
    shutil.copy(site.box.root / "etc/twinlock/spawner.toml", site.box.root / "etc/twinlock/instances/bad")
    site.box.run("systemctl", "start", "twinlock-spawner@bad")
    assert site.show("twinlock-spawner@bad", "Result") == "exec-condition"
    assert site.endpoints() == before


def test_the_web_page_is_for_the_web_server_alone_and_for_its_people(site: Site) -> None:
    """Switched on by the manual: what the package brings is enough, and a restart of the broker is not the page's."""
    etc = site.box.root / "etc/twinlock"
    assert not site.active("twinlock-console"), "it is off until it is switched on"
    _add(etc / "broker.yaml", "readers: [twinlock-console]\n")
    _add(etc / "console.yaml", f"administrators: [{ADA}]\n")
    commands = re.findall(r"^ +(usermod .*|systemctl .*)$", (ROOT / "docs/console.md").read_text(), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        site.box.run("sh", "-euc", command, timeout=150)
    _good(site, BOB, site.run(BOB, "shown"), 1)
    page = site.main_pid("twinlock-console")
    assert site.box.attempt(*_asking("daemon", ADA)).stdout == "[Errno 13] Permission denied\n"
    for _ in range(2):
        assert eventually(lambda: f'"user": "{BOB}"' in site.box.attempt(*_asking("www-data", ADA)).stdout, 120)
        assert f'"user": "{ADA}"' not in site.box.run(*_asking("www-data", BOB))
        site.box.run("systemctl", "restart", "twinlock-broker", timeout=150)
    assert site.main_pid("twinlock-console") == page


def _add(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line)


def _asking(account: str, person: str) -> list[str]:
    """A command: ask the page as the web server's account does, and print the first event for that person."""
    code = (
        "import socket\n"
        "asks = socket.socket(socket.AF_UNIX)\n"
        "try:\n"
        "    asks.connect('/run/twinlock-console/console.sock')\n"
        "except OSError as error:\n"
        "    print(error)\n"
        "else:\n"
        f"    asks.sendall(b'GET /api/events HTTP/1.1\\r\\nHost: localhost\\r\\nX-Remote-User: {person}\\r\\n\\r\\n')\n"
        "    asks.settimeout(60)\n"
        "    answer = b''\n"
        "    while b'event: failures' not in answer and (part := asks.recv(65536)):\n"
        "        answer += part\n"
        "    print(answer.decode())\n"
    )
    return ["runuser", "--user", account, "--", "/usr/bin/python3", "-c", code]


def _login(site: Site) -> list[str]:
    return [(site.box.root / "etc/twinlock/client" / name).read_text() for name in ("id", "secret")]


def test_a_purge_leaves_nothing(site: Site) -> None:
    for made in (site.box.root / "etc/systemd/system").glob("twinlock-*.d"):
        shutil.rmtree(made)  # the administrator's own, by this test
    site.box.run("apt-get", "purge", "--yes", "twinlock*", timeout=600)
    found = site.box.run("find", "/", "-xdev", "-path", "/proc", "-prune", "-o", "-name", "*twinlock*", "-print")
    ours = [
        path
        for path in found.split()
        if not path.startswith(
            ("/srv/twinlock", "/home/", "/var/lib/apt", "/var/cache", "/etc/apt", "/tmp", "/var/tmp", "/var/log/apt")
        )
    ]
    assert ours == []
    accounts = (site.box.root / "etc/passwd").read_text() + (site.box.root / "etc/group").read_text()
    assert not re.findall(r"^twinlock", accounts, re.MULTILINE)
    assert site.box.attempt("pgrep", "-f", "twinlock|Globus Compute").stdout == ""
