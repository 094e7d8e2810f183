"""The arguments of Parsl's Manager from the command line of its worker pool."""

import math
from argparse import Namespace
from typing import Any


def manager_arguments(chosen: Namespace) -> dict[str, Any]:
    """Return the keyword arguments, as Parsl's process_worker_pool.py makes them of its options."""

    def number(text: Any, kind: type) -> Any:
        return None if text in (None, "None") else kind(text)

    most = chosen.max_workers_per_node
    return {
        "port": chosen.port,
        "addresses": chosen.addresses,
        "address_probe_timeout": int(chosen.address_probe_timeout),
        "uid": chosen.uid,
        "block_id": chosen.block_id,
        "cores_per_worker": float(chosen.cores_per_worker),
        "mem_per_worker": number(chosen.mem_per_worker, float),
        "max_workers_per_node": most if most == math.inf else int(most),
        "prefetch_capacity": int(chosen.prefetch_capacity),
        "heartbeat_threshold": int(chosen.hb_threshold),
        "heartbeat_period": int(chosen.hb_period),
        "drain_period": number(chosen.drain_period, int),
        "poll_period": int(chosen.poll),
        "cpu_affinity": chosen.cpu_affinity,
        "enable_mpi_mode": chosen.enable_mpi_mode,
        "mpi_launcher": chosen.mpi_launcher,
        "available_accelerators": chosen.available_accelerators,
        "cert_dir": None if chosen.cert_dir == "None" else chosen.cert_dir,
        "log_config": None,
    }
