"""Who asks: from the identities in a command to a local account."""
