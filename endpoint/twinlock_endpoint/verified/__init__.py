"""Verified mode: nothing runs but what the account's user has signed, whatever the queue and the manager endpoint say.

The other rooms don't know of it: `tasks` asks an intake, and `manager` a belief. Only this mode loads it.
"""
