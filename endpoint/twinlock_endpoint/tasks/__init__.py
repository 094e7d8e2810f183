"""A task's life in the endpoint: how many are taken, what is owed for each, when it runs, and what its result is."""
