"""Signed work from a user's own computer: only the user can have asked for it, and results can't run code here.

```python
from twinlock_client import SignedExecutor

with SignedExecutor(endpoint, user="ada@cluster.example.org", key="~/.ssh/id_ed25519") as executor:
    print(executor.submit(where_am_i, "Ada").result())
```

- `executor`: `SignedExecutor`, which is used as the SDK's Executor is
- `session`, `delegations`, `ssh_keys`: who signs what
- `functions`, `results`: what travels, and what is believed of it
- `records`: what this computer remembers, in files of the user's
- `sdk`: the parts of globus-compute-sdk that believe the service, each with one in its place that doesn't
- `commands`: the command `twinlock-client`

What `submit` and the constructor refuse, they refuse by `Refused`. It runs on Python 3.10 and later.
"""

from importlib import import_module
from typing import Any

from twinlock_signed.errors import Refused

__all__ = ["Refused", "ResultRefused", "SignedExecutor", "UnsignedFailure"]

_MODULES = {"SignedExecutor": "executor", "ResultRefused": "results", "UnsignedFailure": "results"}


def __getattr__(name: str) -> Any:
    """Load what needs the SDK when it is asked for: that takes a second, and most commands do without."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
