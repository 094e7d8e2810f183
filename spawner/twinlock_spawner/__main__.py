"""``twinlock-spawner --policy FILE [--check]``"""

import os
import sys


def main() -> int:
    """Start over as ``python -I`` unless we run so: no environment variable, user site or working directory counts."""
    if not sys.flags.isolated:
        os.execv(sys.executable, [sys.executable, "-I", "-m", "twinlock_spawner", *sys.argv[1:]])
    os.environ["MSGPACK_PUREPYTHON"] = "1"  # no C parser reads the broker's bytes as root
    from twinlock_spawner.command import command

    return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
