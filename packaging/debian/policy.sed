# From the example policy to that of the packages: their paths, and the cgroup that twinlock-spawner.service has.
s|^cgroup = ""|cgroup = "/sys/fs/cgroup/twinlock.slice/twinlock-spawner.service"|
s|"/opt/twinlock/bin/twinlock-endpoint"|"/usr/bin/twinlock-endpoint"|
s|"/opt/twinlock/bin:|"|
