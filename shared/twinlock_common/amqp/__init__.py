"""The parts' client of RabbitMQ, on pika and asyncio."""
