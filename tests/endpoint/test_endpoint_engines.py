"""Engines as configurations describe them."""

import errno
import socket
import uuid
from pathlib import Path
from typing import Any

import parsl.addresses
import pytest
import yaml
from endpoint_rig import until
from parsl.jobs.states import JobState, JobStatus
from process_trees import lives
from twinlock_endpoint.engines import ENGINES, build
from twinlock_endpoint.engines.base import Place
from twinlock_endpoint.engines.containers import Container
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.htex.submitted import Submitted
from twinlock_endpoint.tasks.window import window_size


def made(text: str) -> Any:
    return build(yaml.safe_load(text))


def executor(text: str) -> Any:
    return made(text)._executor  # noqa: SLF001 - the Parsl executor that the engine has made


WIDE = "{type: LocalProvider, nodes_per_block: 2, max_blocks: 5}"
WITH_A_SHELL = "{type: LocalProvider, worker_init: 'true', max_blocks: 1}"
SIMPLE = "{type: LocalProvider, launcher: {type: SimpleLauncher}}"
PROVIDERS_WITH_A_WALLTIME = (
    "CondorProvider",
    "GridEngineProvider",
    "LSFProvider",
    "PBSProProvider",
    "SlurmProvider",
    "TorqueProvider",
)
SLURM = "{type: SlurmProvider, account: abc, launcher: {type: SrunLauncher}, walltime: '00:30:00'}"


@pytest.fixture(autouse=True)
def _no_question_to_anybody_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked an outside service for this host's address")

    monkeypatch.setattr(parsl.addresses.requests, "get", refuse)
    monkeypatch.setattr(parsl.addresses, "address_by_query", refuse)


def test_the_administrators_template() -> None:
    htex = executor(f"{{type: GlobusComputeEngine, provider: {SLURM}}}")
    assert (type(htex.provider).__name__, htex.provider.account) == ("SlurmProvider", "abc")
    assert (type(htex.provider.launcher).__name__, htex.provider.walltime) == ("SrunLauncher", "00:30:00")


def test_batch_workers_are_told_every_address_and_the_interchange_listens_on_all() -> None:
    htex = executor(f"{{type: GlobusComputeEngine, provider: {SLURM}}}")
    assert htex.address is None
    assert {"127.0.0.1", socket.gethostbyname(socket.gethostname())} <= htex.all_addresses


@pytest.mark.parametrize("provider", ["", ", provider: {type: LocalProvider}"])
def test_local_workers_use_the_loopback_only(provider: str) -> None:
    htex = executor(f"{{type: GlobusComputeEngine{provider}}}")
    assert (htex.address, htex.all_addresses) == ("127.0.0.1", {"127.0.0.1"})


@pytest.mark.parametrize("address", ["127.0.0.2", "{type: address_by_interface, ifname: lo}"])
def test_an_address_of_the_configuration_is_used(address: str) -> None:
    htex = executor(f"{{type: GlobusComputeEngine, address: {address}, provider: {SLURM}}}")
    assert htex.address == ("127.0.0.1" if "lo" in address else "127.0.0.2")


def test_arguments_of_the_executor_are_passed_on() -> None:
    htex = executor(
        "{type: GlobusComputeEngine, label: mine, encrypted: false, cores_per_worker: 0.5, max_workers_per_node: 3,"
        " worker_port_range: [50000, 50100], available_accelerators: [a, b], heartbeat_period: 15,"
        " mem_per_worker: null}"
    )
    assert (htex.encrypted, htex.cores_per_worker, htex.max_workers_per_node) == (False, 0.5, 3)
    assert (htex.worker_port_range, htex.available_accelerators) == ((50000, 50100), ["a", "b"])
    assert (htex.label, htex.heartbeat_period) == ("mine-HighThroughputExecutor", 15)


@pytest.mark.parametrize("kind", ["GlobusComputeEngine}", f"GlobusMPIEngine, provider: {SIMPLE}}}"])
def test_traffic_is_encrypted_unless_somebody_says_otherwise(kind: str) -> None:
    assert executor(f"{{type: {kind}").encrypted
    open_engine = made(f"{{encrypted: false, type: {kind}")
    # It looks at the Parsl executor that the engine has made.
    assert (open_engine.encrypted, open_engine._executor.encrypted) == (False, False)  # noqa: SLF001


@pytest.mark.parametrize(
    ("text", "scaling"),
    [
        ("", ("simple", 120, 5)),
        ("strategy: null", ("simple", 120, 5)),
        ("strategy: htex_auto_scale", ("htex_auto_scale", 120, 5)),
        ("strategy: {type: SimpleStrategy, max_idletime: 90}", ("simple", 90, 5)),
        ("strategy: simple, job_status_kwargs: {strategy: none, strategy_period: 0.5}", ("none", 120, 0.5)),
        ("job_status_kwargs: {strategy: null, max_idletime: 3}", ("none", 3, 5)),
        ("job_status_kwargs: {max_idletime: .inf}", ("simple", float("inf"), 5)),
    ],
)
def test_scaling(text: str, scaling: tuple[str, float, float]) -> None:
    # It looks at the options with which Parsl scales blocks.
    found = made(f"{{type: GlobusComputeEngine, {text}}}")._scaling  # noqa: SLF001
    assert (found["strategy"], found["max_idletime"], found["strategy_period"]) == scaling


GOOD, BAD = JobStatus(JobState.SCALED_IN), JobStatus(JobState.FAILED, "no hours are left")
RUNS = JobStatus(JobState.RUNNING)


@pytest.mark.parametrize(
    ("blocks", "over"),
    [
        ([BAD], True),
        ([GOOD, BAD, BAD], False),
        ([GOOD, BAD, BAD, BAD], True),
        ([GOOD, BAD, BAD, BAD, RUNS], False),
    ],
)
def test_blocks_that_fail_again_and_again_are_the_end_also_after_a_good_one(
    blocks: list[JobStatus], over: bool, tmp_path: Path
) -> None:
    htex = executor("{type: GlobusComputeEngine}")
    htex.submitted = Submitted(tmp_path / "blocks.json")
    htex.handle_errors({str(number): status for number, status in enumerate(blocks)})
    assert htex.bad_state_is_set == over
    assert ("no hours are left" in str(htex.executor_exception)) == over


def test_the_condition_is_told_while_the_poller_adds_and_removes_blocks() -> None:
    htex = executor("{type: GlobusComputeEngine}")
    statuses = htex.status_facade

    class Watched(JobStatus):  # type: ignore[misc]  # Parsl ships no types
        """A status at which one looks just as the poller drops its block and adds another."""

        @property
        def message(self) -> str:
            statuses.pop("0", None)
            statuses["1"] = RUNS
            return "Priority"

        @message.setter
        def message(self, _text: str) -> None: ...

    htex.blocks_to_job_id["0"] = "17"
    statuses["0"] = Watched(JobState.PENDING)
    assert htex.condition() == "The batch job 17 is now Priority"


def test_a_step_of_an_engines_end_that_fails_keeps_no_other_from_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_jobs: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "no process is left for the scheduler's command")

    engine = made(f"{{type: GlobusComputeEngine, encrypted: false, provider: {WITH_A_SHELL}}}")
    engine.start(Place(str(uuid.uuid4()), tmp_path, lambda error: None))
    htex = engine._executor  # noqa: SLF001 - the Parsl executor that the engine has made
    until(lambda: htex.blocks_to_job_id)
    interchange, (job,) = htex.interchange_proc, htex.blocks_to_job_id.values()
    monkeypatch.setattr(htex.provider, "cancel", refuse)
    with pytest.raises(BlockingIOError):
        engine.stop()
    assert interchange.poll() is not None
    until(lambda: not lives(int(job)))
    htex.incoming_q.close()  # as the loop does if it took results; ZeroMQ may wait for that when it is collected


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("{type: ThreadPoolEngine, max_workers: 3}", 3),
        ("{type: ProcessPoolEngine, max_workers: 2, max_tasks_per_child: 10}", 2),
        (f"{{type: GlobusComputeEngine, max_workers_per_node: 4, provider: {WIDE}}}", 40),
    ],
)
def test_most_workers(text: str, most: int) -> None:
    assert made(text).max_workers == most


@pytest.mark.parametrize(("workers", "tasks"), [(1, 32), (8, 32), (100, 400), (100_000, 65535)])
def test_tasks_taken_in_advance(workers: int, tasks: int) -> None:
    assert window_size(workers) == tasks


@pytest.mark.parametrize("kind", PROVIDERS_WITH_A_WALLTIME)
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1:00:00", "1:00:00"),  # 3600 for YAML
        ("120:30:05", "120:30:05"),
        ("90:00", "1:30:00"),
        ("5400", "1:30:00"),
        ("01:00:00", "01:00:00"),  # a text for YAML, as in quotes
        ("'1:00:00'", "1:00:00"),
        ("1-12:00:00", "36:00:00"),
        ("'02:00:00:00'", "48:00:00"),
    ],
)
def test_a_walltime_needs_no_quotes(kind: str, written: str, read: str) -> None:
    htex = executor(f"{{type: GlobusComputeEngine, provider: {{type: {kind}, walltime: {written}}}}}")
    assert htex.provider.walltime == read


def test_numbers_and_texts_where_parsl_takes_both() -> None:
    options = "nodes_per_block: '2', cpus_per_node: '4', select_options: 5, parallelism: '0.5'"
    provider = executor(f"{{type: GlobusComputeEngine, provider: {{type: PBSProProvider, {options}}}}}").provider
    assert (provider.nodes_per_block, provider.cpus_per_node, provider.parallelism) == (2, 4, 0.5)
    assert provider.select_options == "5"


def test_a_whole_number_with_a_point_is_one_for_the_scheduler() -> None:
    """As options have it that are of JSON schema's type number."""
    options = "nodes_per_block: 2.0, cpus_per_node: 4.0"
    provider = executor(f"{{type: GlobusComputeEngine, provider: {{type: PBSProProvider, {options}}}}}").provider
    assert [repr(provider.nodes_per_block), repr(provider.cpus_per_node)] == ["2", "4"]


def test_an_account_of_digits_needs_no_quotes() -> None:
    options = "account: 20417, partition: 7, qos: 1"
    provider = executor(f"{{type: GlobusComputeEngine, provider: {{type: SlurmProvider, {options}}}}}").provider
    assert (provider.account, provider.partition, provider.qos) == ("20417", "7", "1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{max_workers: 1}", "no 'type'; known are: GlobusComputeEngine"),
        ("{type: GlobusComputEngine}", "did you mean 'GlobusComputeEngine'?"),
        ("{type: [GlobusComputeEngine]}", "engine type ['GlobusComputeEngine'] is not a name; known are: GlobusComp"),
        ("{type: {name: GlobusComputeEngine}}", "engine type {'name': 'GlobusComputeEngine'} is not a name"),
        *(
            (f"{{type: {kind}, max_retries_on_system_failure: {number}}}", said)
            for kind in ENGINES
            for number, said in (
                ("-1", "'max_retries_on_system_failure': -1; it has to be a number from 0 on"),
                ("many", "'max_retries_on_system_failure': 'many'"),
            )
        ),
        ("{type: globuscomputeengine}", "did you mean 'GlobusComputeEngine'?"),
        ("{type: build}", "engine type 'build' is unknown"),
        ("{type: ThreadPoolEngine, max_worker: 1}", "no argument 'max_worker'; did you mean 'max_workers'?"),
        ("{type: ThreadPoolEngine, max_workers: 0}", "max_workers must be greater than 0"),
        ("{type: ThreadPoolEngine, run_in_sandbox: maybe}", "'run_in_sandbox': 'maybe'"),
        ("{type: GlobusComputeEngine, max_worker_per_node: 1}", "did you mean 'max_workers_per_node'?"),
        ("{type: GlobusComputeEngine, max_workers_per_node: many}", "'max_workers_per_node': 'many'"),
        ("{type: GlobusComputeEngine, provider: LocalProvider}", "provider has to be a mapping with a 'type'"),
        ("{type: GlobusComputeEngine, provider: {max_blocks: 1}}", "provider has to be a mapping with a 'type'"),
        ("{type: GlobusComputeEngine, provider: {type: SlurmProvidr}}", "did you mean 'SlurmProvider'?"),
        ("{type: GlobusComputeEngine, provider: {type: CobaltProvider}}", "Parsl has no CobaltProvider any more"),
        ("{type: GlobusComputeEngine, provider: {type: slurm}}", "provider type 'slurm' is unknown"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, maxblocks: 1}}", "did you mean 'max_blocks'?"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, max_blocks: two}}", "'max_blocks': 'two'"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, max_blocks: -1}}", "a number from 0 on"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, min_blocks: -1}}", "a number from 0 on"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, nodes_per_block: 0}}", "a number from 1 on"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, parallelism: .inf}}", "a number from 0 on"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, parallelism: .nan}}", "a number from 0 on"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, parallelism: -0.5}}", "a number from 0 on"),
        ("{type: GlobusComputeEngine, provider: {type: LocalProvider, cmd_timeout: 0}}", "a number from 1 on"),
        ("{type: GlobusComputeEngine, max_workers_per_node: -1, provider: {type: LocalProvider}}", "no worker fits"),
        (
            "{type: GlobusComputeEngine, cores_per_worker: 8, provider: {type: SlurmProvider, cores_per_node: 4}}",
            "no worker fits",
        ),
        (
            "{type: GlobusComputeEngine, mem_per_worker: 9, provider: {type: SlurmProvider, mem_per_node: 8}}",
            "no worker fits",
        ),
        ("{type: GlobusComputeEngine, provider: {type: SlurmProvider, walltime: 30}}", "'walltime': 30"),
        *(
            (
                f"{{type: GlobusComputeEngine, provider: {{type: {kind}, walltime: {time}}}}}",
                f"{kind} has 'walltime': {time}. Write the time as 'H:MM:SS'",
            )
            for kind in ("LSFProvider", "SlurmProvider")
            for time in ("'24:00'", "'90'", "'2h'", "''", "'1:90:00'")
        ),
        ("{type: GlobusComputeEngine, provider: {type: PBSProProvider, walltime: 0}}", "Write the time as 'H:MM:SS'"),
        ("{type: GlobusComputeEngine, provider: {type: PBSProProvider, walltime: yes}}", "'walltime': True"),
        (
            "{type: GlobusComputeEngine, provider: {type: PBSProProvider, nodes_per_block: two}}",
            "'nodes_per_block': 't",
        ),
        (
            "{type: GlobusComputeEngine, provider: {type: LocalProvider, launcher: {type: SrunLauncer}}}",
            "did you mean 'SrunLauncher'?",
        ),
        ("{type: GlobusComputeEngine, provider: {type: KubernetesProvider}}", "needs the argument 'image'"),
        ("{type: GlobusComputeEngine, address: 192.0.2.1}", "'192.0.2.1', where this host can't listen"),
        ("{type: GlobusComputeEngine, address: no.such.host.invalid}", "'no.such.host.invalid', where this host"),
        ("{type: GlobusComputeEngine, address: {type: get_all_addresses}}", "did you mean 'get_any_address'?"),
        ("{type: GlobusComputeEngine, address: {type: address_by_interface, ifname: nope0}}", "can't be made"),
        ("{type: HighThroughputEngine}", "no HighThroughputEngine any more; GlobusComputeEngine has its place"),
        ("{type: GlobusComputeEngine, enable_mpi_mode: true}", "GlobusMPIEngine is for MPI programs"),
        ("{type: GlobusComputeEngine, provider: {type: SlurmProvider, channel: {}}}", "any more: Parsl runs the sched"),
        ("{type: GlobusComputeEngine, strategy: {max_idletime: 1}}", "'strategy' is a mapping without a 'type'"),
        (
            "{type: GlobusComputeEngine, strategy: {type: simple, idle: 1}}",
            "'job_status_kwargs' has no 'idle'; known are: max",
        ),
        (
            "{type: GlobusComputeEngine, job_status_kwargs: {max_idletime: soon}}",
            "'soon', which is not a number of sec",
        ),
        *(
            (f"{{type: GlobusComputeEngine, job_status_kwargs: {{strategy_period: {period}}}}}", said)
            for period, said in (
                ("0", "'strategy_period': 0; it has to be more than 0"),
                (".inf", "'strategy_period': inf; it has to be"),
                ("1.0e+12", "it has to be more than 0, and finite"),
                (".nan", "'strategy_period': nan, which is not a number of seconds"),
            )
        ),
        (
            "{type: GlobusComputeEngine, job_status_kwargs: {max_idletime: .nan}}",
            "'max_idletime': nan, which is not a number of seconds",
        ),
        ("{type: GlobusComputeEngine, strategy: simpel}", "did you mean 'simple'?"),
        ("{type: GlobusComputeEngine, job_status_kwargs: {max_idle: 1}}", "did you mean 'max_idletime'?"),
        ("{type: GlobusComputeEngine, allowed_serializers: [os.path]}", "'allowed_serializers' can't be used"),
        ("{type: GlobusComputeEngine, container_type: dockr}", "did you mean 'docker'?"),
        ("{type: GlobusComputeEngine, container_type: docker}", "needs 'container_uri'"),
        ("{type: GlobusComputeEngine, container_type: custom}", "needs 'container_cmd_options'"),
    ],
)
def test_each_fault_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("container", "command"),
    [
        (Container(), "pool --block_id=7"),
        (Container("docker", "image", "-e A={B}"), "docker run -e A={B} -v /run:/run -t image pool --block_id=7"),
        (Container("apptainer", "image"), "apptainer run  image pool --block_id=7"),
        (
            Container("custom", options="mine -b {EXECUTOR_RUNDIR} {EXECUTOR_LAUNCH_CMD} {X}"),
            "mine -b /run pool --block_id=7 {X}",
        ),
    ],
)
def test_workers_in_a_container(container: Container, command: str) -> None:
    # Parsl formats the command twice: with its own arguments, then for each block.
    wrapped = container.wrap("{name} --block_id={{block_id}}", Path("/run"))
    assert wrapped.format(name="pool").format(block_id=7) == command
