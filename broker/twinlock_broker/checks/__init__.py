"""The checks of ``twinlock check``: a module for each subject, with functions that yield findings."""
