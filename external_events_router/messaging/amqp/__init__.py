"""The fast road over RabbitMQ: many publishes on one connection, their confirms awaited together.

What goes over it is what oslo.messaging would send and receive for the same
configuration, to the byte where it matters, so that either end may be on the
plain road. It knows no service: topics and methods are in the ``rpcapi`` and
``endpoint`` modules, which use it where ``rpc.get_broker`` says that it can be.
"""
