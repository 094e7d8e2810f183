"""How much one caller may take, so that none holds up the others."""
