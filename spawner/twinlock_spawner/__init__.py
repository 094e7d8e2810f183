"""The root process: forks, changes to the mapped user, executes one fixed program, reports its end. Nothing else.

Read it in this order: `policy` (what is allowed), `channel` (who may ask, and how), `server` (the loop and the
decisions), `children` (the table), `child` (from fork to exec), `tree` (ending all that a child started), `audit`.
"""
