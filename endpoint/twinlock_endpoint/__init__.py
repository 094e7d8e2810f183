"""The user endpoint, `twinlock-endpoint`: runs one user's tasks under that user's account."""
