"""The client of RabbitMQ that the parts share, on pika and asyncio."""
