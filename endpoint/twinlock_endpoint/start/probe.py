"""A trial run of Python with other environment variables.

If Python doesn't start with them, it is too late to give the user a reason.
"""

import subprocess
from collections.abc import Iterable, Mapping, Sequence

from twinlock_endpoint import exits
from twinlock_endpoint.errors import ConfigError

_RISKY = ("PYTHON", "LD_", "GCONV_", "GLIBC_", "MALLOC_")
_LIMIT_S = 60.0
_SHOWN = 300


def check(python: Sequence[str], code: str, variables: Mapping[bytes, bytes], new: Iterable[str]) -> None:
    """Run the code with an interpreter, unless none of the names in `new` can keep it from starting.

    Raises:
        ConfigError: it fails. The text names the variables and has what the interpreter said.
    """
    risky = sorted(name for name in new if name.startswith(_RISKY))
    if not risky:
        return
    try:
        done = subprocess.run(
            [*python, "-c", code],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_LIMIT_S,
            check=False,
        )
        failure = _reason(done.returncode, done.stderr.decode(errors="replace")) if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error.strerror if isinstance(error, OSError) else f"it takes more than {_LIMIT_S:.0f} s")
    if failure:
        names = ", ".join(risky)
        raise ConfigError(f"Python can't start with the site's environment variables ({names}): {failure}")


def _reason(code: int, said: str) -> str:
    """Return the line of the output that tells most, without the paths that Python puts at its end."""
    if code < 0:
        return f"it {exits.describe(code)}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal Python error: ")]
    best = (fatal or lines[-1:] or [f"exit code {code}"])[0]
    return best.partition(" (/")[0][:_SHOWN]
