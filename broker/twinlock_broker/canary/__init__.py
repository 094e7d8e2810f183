"""A task of a service account, from its submission to its result, which shows whether users' tasks would run."""
