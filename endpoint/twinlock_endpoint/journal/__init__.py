"""The endpoint's journal, on disk in its folder: the tasks that it took, and results that aren't delivered yet."""
