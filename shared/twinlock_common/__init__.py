"""What the parts that run without root share; nothing of it is loaded by root."""
