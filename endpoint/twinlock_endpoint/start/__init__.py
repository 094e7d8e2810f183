"""From the command line and the start document to a running endpoint: ours, or the official agent's in its place."""
