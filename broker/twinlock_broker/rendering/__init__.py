"""What a user endpoint is given: its configuration, rendered in processes, and its start document."""
