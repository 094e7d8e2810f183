"""The HTTP server: where it listens, its connections and certificate, and which call is served by what."""
