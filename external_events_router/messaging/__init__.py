"""Messages between the services: RPC over oslo.messaging, and direct AMQP for RabbitMQ."""
