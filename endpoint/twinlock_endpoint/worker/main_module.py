"""The module `__main__` of processes that run tasks.

A user's function from a script lives in `__main__`. The SDK's serializer (dill) puts it into the module that had this
name when dill was imported, and a value that the function makes takes along what is in there. So before dill is
imported this has to be a module with nothing of ours in it.
"""

import sys
from types import ModuleType


def replace() -> None:
    """Put an empty module in the place of this program's. Processes of multiprocessing then don't load the program."""
    sys.modules["__main__"] = ModuleType("__main__")
