"""What the user endpoint is told: options, template, document."""
