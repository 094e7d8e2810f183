"""What the user endpoint is told: the renderer's processes, and the document."""
