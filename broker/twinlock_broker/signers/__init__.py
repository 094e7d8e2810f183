"""The signers of an account: whose work an endpoint of the account runs in verified mode, for an administrator."""
