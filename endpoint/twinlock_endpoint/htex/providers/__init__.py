"""Parsl's providers, changed, and the questions to batch schedulers and their answers."""
