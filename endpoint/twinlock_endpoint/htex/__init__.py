"""Everything that uses Parsl's HighThroughputExecutor. Nothing else in Twinlock imports Parsl."""
