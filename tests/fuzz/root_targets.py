"""What root decodes: datagrams, and the state that a spawner hands to itself when it starts over.

Both with msgpack's decoder in Python, as root has it.
"""

import io
import math
import os
import signal

from mutations import as_msgpack
from target import Group, Target


def _datagrams() -> Target:
    """Bytes from the broker, or from the spawner."""
    import msgpack
    import wire_rig
    from twinlock_wire import wire

    assert msgpack.Unpacker.__module__ == "msgpack.fallback"
    longest = wire.Children([wire_rig.ALICE._replace(user="u" * 64)] * wire.MAX_PAGE)
    messages = [*wire_rig.REQUESTS, *wire_rig.REPLIES, longest]
    values = [wire_rig.as_map(message) for message in messages]
    words = [word for value in values for word in (*value, *value.values())]
    return Target(wire_rig.check_datagram, [wire.encode(message) for message in messages], as_msgpack(), words)


def _states() -> Target:
    """What a spawner that starts over finds in its memfd: what its earlier self puts there, and anything else."""
    import msgpack
    from twinlock_spawner import reload
    from twinlock_wire import wire
    from wire_rig import NAME, SPAWN, UEP

    pid = _child()

    def resume(data: bytes) -> bool:
        """Whether the bytes are taken for a state; all in it can then be told to a broker."""
        try:
            _, children = reload.read_state(io.BytesIO(data))
        except (ValueError, TypeError, OSError):
            return False
        for child in children or []:
            wire.check(child.row())
        return True

    def check(data: bytes) -> None:
        before = os.listdir("/proc/self/fd")
        resume(data)
        assert os.listdir("/proc/self/fd") == before, "a file descriptor is left, or one was closed"

    running = (SPAWN, "", signal.SIGUSR1, 12.5, pid, None, None)
    in_a_cgroup = (SPAWN, f"/sys/fs/cgroup/{os.getpid()}/u-{SPAWN[1]}/{UEP}", signal.SIGKILL, math.inf, pid, None, None)
    ending = (SPAWN._replace(id=NAME[4:40]), "", signal.SIGKILL, 12.5, pid, 256, None)
    ended = (SPAWN, "", signal.SIGKILL, math.inf, pid, 0, 0)
    seeds = [
        msgpack.packb([{}, 0, ""]) + msgpack.packb(rows) for rows in ([], [running], [in_a_cgroup, ending], [ended])
    ]
    for seed in seeds:
        assert resume(seed), "a seed is no state; has the form changed?"
    return Target(check, seeds, as_msgpack(), [*running, *in_a_cgroup, *ending, UEP, NAME])


def _child() -> int:
    """A child of this process; it ends with it."""
    import prctl

    if pid := os.fork():
        return pid
    prctl.set_pdeathsig(signal.SIGKILL)
    while True:
        signal.pause()


ROOT = Group(("msgpack", "twinlock_wire", "twinlock_spawner"), {"datagrams": _datagrams, "states": _states})
