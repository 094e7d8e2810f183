"""The imports of ProcessPoolEngine's workers: the server that they are forked from imports this module."""

import gc

from twinlock_endpoint.worker import main_module

main_module.replace()

from twinlock_endpoint.worker import execute  # noqa: E402 - it imports dill

execute.details()
gc.collect()
gc.freeze()  # else the collector would write into the pages of everything that lives, and so copy them
