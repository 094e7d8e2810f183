"""The start, from command line and start document to a running endpoint: ours, or the official agent's in its place."""
