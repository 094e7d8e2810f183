"""All that is done with Parsl's HighThroughputExecutor. Nothing else in Twinlock imports Parsl."""
