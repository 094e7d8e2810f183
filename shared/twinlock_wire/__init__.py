"""What the spawner and the broker share: the messages on the socket between them. Audited with the spawner."""
