"""What is changed in Parsl on nodes, and wherever else a task runs, with any Python that has Parsl."""
