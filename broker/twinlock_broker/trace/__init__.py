"""`twinlock trace`: what all logs have about a user, an endpoint, a request, a process or a batch job, in order."""
