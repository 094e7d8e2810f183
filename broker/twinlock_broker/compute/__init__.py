"""The broker's side of the Compute service: registration, AMQP connections, commands, heartbeats, failure notices."""
