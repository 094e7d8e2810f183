"""The root process: forks, changes to the mapped user, executes one fixed program, reports its end. Nothing else.

docs/audit.md is the guided reading. Each file uses only those below it:

    __main__     the command line
    reload       begins to serve, and starts over in place
    server       the socket, the requests, the loop
    children     the table of endpoints: limits, states, signals, ends
    stages       from root to the user, stage by stage
    admission    whom the policy lets in
    limits       an endpoint's resource limits
    descriptors  which file descriptors an endpoint gets, how all are closed
    guard, pam   a parent for an endpoint, without a cgroup or with a PAM session
    keeper       kills what is left when the spawner has ended
    cgroups      where endpoints' cgroups are, and their limits
    child, start, rates, tree, kernel, locks, audit, policy, trust
"""

import os

os.environ["MSGPACK_PUREPYTHON"] = "1"  # before msgpack is loaded: no C parser reads the broker's bytes as root
