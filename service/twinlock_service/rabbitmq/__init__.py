"""RabbitMQ: the private node, what the service sets up in it, and the connection for messages."""
