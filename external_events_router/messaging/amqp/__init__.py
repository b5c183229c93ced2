"""Direct AMQP for RabbitMQ: many publishes on one connection, which wait for their confirms together.

The messages are the same as oslo.messaging would send and receive with the same configuration, so the
other end may use oslo.messaging. This package knows no service: topics and methods are in
the modules ``rpcapi`` and ``endpoint``, which use it if ``rpc.get_broker`` returns a broker.
"""
