"""`twinlock-console`: a page for administrators and users, behind the site's own web server.

It runs under an account of its own, reads from the broker what the readers' socket has, and can order nothing.
"""
