"""Who may use the service: the users file, and those whom it lets in."""
