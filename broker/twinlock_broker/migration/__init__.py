"""From an endpoint that globus-compute-endpoint runs as root to one of ours, and back: ``twinlock configure``."""
