"""The move of an endpoint that globus-compute-endpoint runs as root to Twinlock, and back: ``twinlock configure``."""
