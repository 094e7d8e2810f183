"""The start of Parsl's worker pool on a node, with a connection to the interchange over which nothing is lost.

    python /path/of/pool.py /path/of/process_worker_pool.py ARGUMENTS

The file runs on nodes, with any Python that has Parsl.
"""

import os
import runpy
import sys
from types import TracebackType
from typing import Any

_ZMQ_WITH_CLASSES = 25  # the release of pyzmq from which a socket can be of a class of ours


def main() -> None:
    """Run the program that the first argument names, as if it had been started itself."""
    del sys.argv[0]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120
    _connect_by_pool_line()
    sys.excepthook = _report
    runpy.run_path(sys.argv[0], run_name="__main__")


def _report(kind: "type[BaseException]", error: BaseException, trace: "TracebackType | None") -> None:
    """Report an error without the steps that led to the program.

    Of a long text Parsl drops the middle, which may have the reason in it.
    """
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename != sys.argv[0]:
        inner = inner.tb_next
    shown = inner or trace
    sys.__excepthook__(kind, error.with_traceback(shown), shown)


def _connect_by_pool_line() -> None:
    # Imported only now: before, the path had this file's folder, where modules may have names of others.
    try:
        import zmq
        from parsl import curvezmq
        from parsl.executors.high_throughput import probe
    except ImportError:
        return  # of an older Parsl the pool runs as it is
    if int(zmq.__version__.partition(".")[0]) < _ZMQ_WITH_CLASSES:
        return

    from twinlock_endpoint.htex.node.pool_line import PoolLine

    make = curvezmq.ClientContext.socket
    find = probe.probe_addresses

    def socket(context: Any, kind: int, *arguments: Any, **keywords: Any) -> Any:
        if kind == zmq.DEALER:
            keywords["socket_class"] = PoolLine
        return make(context, kind, *arguments, **keywords)

    def find_without_name(context: Any, addresses: Any, timeout_ms: int, **_: Any) -> Any:
        """Find an address, but not under the pool's name.

        A late attempt at another address, under that name, would take it from the pool's connection.
        """
        return find(context, addresses, timeout_ms)

    curvezmq.ClientContext.socket = socket
    probe.probe_addresses = find_without_name


if __name__ == "__main__":
    main()
