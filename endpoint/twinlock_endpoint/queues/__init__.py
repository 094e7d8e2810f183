"""The endpoint's end of RabbitMQ: tasks come and are acknowledged, results and heartbeats go and are confirmed."""
