"""What this computer remembers: enrolled result keys, delegations that it made, and tasks that it submitted."""
