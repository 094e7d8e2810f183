"""What ``twinlock check`` looks at: a module a subject, each with functions that give findings."""
