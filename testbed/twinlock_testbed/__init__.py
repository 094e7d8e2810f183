"""A throw-away site on one machine: Unix users, Slurm, the Compute service, a manager endpoint, and scripts of users.

The demonstration (``make demo``) and the system tests stand on it. Everything here is real and private to the run, and
is removed when the run ends, however it ends.
"""
