"""Parsl's providers, and what batch schedulers are asked and say."""
