"""When a batch scheduler is asked for a block again, and what its words mean."""

import pytest
from twinlock_endpoint.htex.providers.scheduler import is_unreachable
from twinlock_endpoint.htex.submissions import Submissions


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
        'sbatch: error: Munge encode failed: Failed to access "/run/munge/munge.socket.2": No such file or directory',
        "Connection refused\nqsub: cannot connect to server pbs01 (errno=111)",
        "pbs_connect: Connection timed out",
        "LSF is down. Please wait ...",
        "Failed in an LSF library call: LIM is not responding yet",
        "error: commlib error: got select error (Connection refused)",
        "Unable to run job: unable to send message to qmaster using port 6444",
        "ERROR: Can't find address of local schedd",
        "ERROR: Failed to connect to local queue manager",
        "sbatch did not answer within 10 s",
        "sbatch: error: get_addr_info: getaddrinfo() failed: Temporary failure in name resolution",
        'sbatch: error: slurm_set_addr: Unable to resolve "ctl1"',
        "sbatch: error: Batch job submission failed: Protocol authentication error",
        "Failed in an LSF library call: Communication time out",
        "Failed in an LSF library call: Slave LIM configuration is not ready yet. Job not submitted.",
        "qsub: Premature end of message",
        "qsub: Server is shutting down",
        "qsub: End of File",
        "Error in connection to trqauthd (15137)-[could not connect to unix socket /tmp/trqauthd-unix: 111]",
        "-- Failed to fetch ads from: <10.0.0.1:9618> : ap.example.org\nSECMAN:2007:Failed to end classad message.",
        "Failed in an LSF library call: Master LIM is down; try later",
        "error: failed receiving gdi request",
        "sbatch: error: Unable to establish control machine address",
        "sbatch: fatal: Could not establish a configuration source",
        "sbatch: error: Batch job submission failed: Requested operation is presently disabled",
    ],
)
def test_schedulers_that_can_not_be_reached(words: str) -> None:
    assert is_unreachable(words)


@pytest.mark.parametrize(
    "words",
    [
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)",
        "sbatch: error: invalid partition specified: nosuch",
        "qsub: Unknown queue",
        "qsub: would exceed queue generic's per-user limit",
        "Request aborted by esub. Job not submitted.",
        "qsub: script file: unexpected end of file",
        "",
    ],
)
def test_schedulers_that_refuse_a_job(words: str) -> None:
    assert not is_unreachable(words)


def test_delays_grow_up_to_a_minute_and_start_over_with_a_success(clock: Clock) -> None:
    submissions = Submissions(900, clock)
    delays = []
    for _ in range(8):
        assert submissions.due()
        submissions.miss("away")
        began = clock.now
        while not submissions.due():
            clock.now += 1
        delays.append(clock.now - began)
    assert delays == sorted(delays)
    assert delays[-1] == 60
    submissions.accepted()
    submissions.refuse("no")
    assert not submissions.due()
    clock.now += delays[0]
    assert submissions.due()


def test_an_outage_lasts_from_its_first_sign_to_any_answer(clock: Clock) -> None:
    submissions = Submissions(900, clock)
    submissions.miss("away")
    clock.now += 899
    submissions.miss("still away")
    assert not submissions.outlasted()
    clock.now += 2
    assert submissions.outlasted()
    assert "still away" in submissions.condition()
    submissions.refuse("no hours are left")
    assert not submissions.outlasted()
    assert "no hours are left" in submissions.condition()
    submissions.accepted()
    assert submissions.condition() == ""
