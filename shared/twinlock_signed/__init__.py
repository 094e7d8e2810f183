"""Signed work: what only the user can have asked for, and results that only the account can have made.

Used by the endpoint, by `twinlock check` and on users' own computers, there with Python 3.10 and nothing beside the
standard library and PyNaCl. No module opens a connection.

- `statement`, `dsse`: strict JSON, and Ed25519 signatures over it
- `delegation`, `task`, `result`: what is signed, and which of it a host or a user believes
- `ssh`: the user's SSH key, by ssh-keygen
- `replay`: what has run already, and what its user has revoked
- `settings`: the administrator's file, `verified.toml`
- `trusted`, `verifier`: what a host goes by, and all of its checks in their order
"""
