"""The parts of globus-compute-sdk that believe what the service says, each with one in its place that doesn't.

Outside of it only `executor` knows private names of the SDK: those of the Executor that its class extends.
`tests/client/test_client_contract.py` says what is relied on.
"""

import importlib.metadata

RELEASES = "4.19."
"""How the versions of the SDK begin with which this was tested: another one might call what isn't replaced here."""


def check_release() -> str:
    """Return the SDK's version. Raise `ImportError` if it is another than those, or there is none."""
    try:
        version = importlib.metadata.version("globus-compute-sdk")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            "globus-compute-sdk isn't installed; install twinlock-client with pip, which brings it"
        ) from None
    if not version.startswith(RELEASES):
        raise ImportError(
            f"globus-compute-sdk {version}: this twinlock-client is for {RELEASES}x; install them in an environment of "
            "their own: pip install twinlock-client"
        )
    return version
