"""The connections to RabbitMQ: tasks come and are acknowledged, results and heartbeats go and are confirmed."""
