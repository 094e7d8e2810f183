"""The Compute service: registration, the AMQP connection, commands in, heartbeats and failure notices out."""
