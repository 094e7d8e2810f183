"""The root process: forks, changes to the mapped user, executes one fixed program, reports its end. Nothing else.

Read it in this order: `policy` (what is allowed), `server` (the loop, who may ask, the decisions), `child` (from fork
to the change of identity, and the end), `user` (what is done as the user, before the program), `audit`, `locks` (one
spawner at a time), `__main__` (start, and start again in place). `guard` and `pam` run only without cgroups, or with a
PAM service in the policy.
"""

import os

os.environ["MSGPACK_PUREPYTHON"] = "1"  # before msgpack is loaded: no C parser reads the broker's bytes as root
