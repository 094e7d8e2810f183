"""What keeps a delegation or a task from being used again, or after its user has revoked it."""
