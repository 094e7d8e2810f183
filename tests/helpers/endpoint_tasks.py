"""Functions that tests of the endpoint submit, so written that their source alone runs in a worker."""


def wait_for(path: str) -> str:
    """Note the run in ``PATH.runs``, then wait for a file at `path`."""
    import pathlib
    import time

    with pathlib.Path(path + ".runs").open("a") as runs:
        runs.write("x")
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return "done"


def note(path: str, number: int) -> int:
    """Append the number to the file at `path`: who runs twice stands there twice."""
    with open(path, "a") as runs:
        runs.write(f"{number}\n")
    return number


def double(number: int) -> int:
    """Twice the number."""
    return number * 2
