"""client_man.py DIR: write the manual page of twinlock-client to DIR/man1, with the folder client in PYTHONPATH.

It goes into the wheel for users' own computers. Hosts don't have the command.
"""

import sys
from pathlib import Path

import man
import prose
from twinlock_client.__main__ import parser

if __name__ == "__main__":
    man.write(Path(sys.argv[1]), prose.FOR_USERS, parser())
