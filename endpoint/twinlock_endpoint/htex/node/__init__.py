"""What of Parsl's is changed on nodes, and wherever a task runs, with any Python that has Parsl."""
