"""Signed work from a user's own computer: only the user can have asked for it, and results can't run code here.

- `session`, `delegations`, `ssh_keys`: who signs what
- `results`: what is believed of them
- `records`: what this computer remembers, in files of the user's

It runs on Python 3.10 and later.
"""
