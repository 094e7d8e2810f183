"""The names of Parsl that Twinlock uses beyond Parsl's documented interface, and the releases that have them so.

Parsl releases every week and promises nothing about these names. So a release that the tests don't run with is refused
before it can lose a task; docs/parsl.md says how to admit another one, and which hooks would shorten the tables.
"""
