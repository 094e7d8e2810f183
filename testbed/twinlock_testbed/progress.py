"""What the person who watches a demonstration reads."""

import time

_STARTED = time.monotonic()


def step(text: str) -> None:
    """Tell the person who watches what happens next."""
    print(f"[{time.monotonic() - _STARTED:5.1f} s] {text}", flush=True)
