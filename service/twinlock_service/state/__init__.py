"""What must survive a restart: a folder with an SQLite database, a file here for each of its tables."""
