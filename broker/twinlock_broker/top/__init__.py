"""What `twinlock top` and `twinlock status` show of a running broker. Only `app` and what it imports load Textual."""
