"""One HTTP request: its body, what it may say, who is calling, and what that caller may see and do."""
