"""The unprivileged half of a Twinlock manager endpoint: network, templates, identity mapping; no root anywhere."""
