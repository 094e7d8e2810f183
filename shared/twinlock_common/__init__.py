"""Code that the parts which run without root share; no process of root loads any of it."""
