"""The tasks in the endpoint: how many are taken, when each runs, what its result is, when the queue may forget it."""
