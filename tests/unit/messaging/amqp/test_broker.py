"""Whose certificate a direct connection accepts; the login is tested on a real broker."""

import socket
import ssl
import threading

from external_events_router import exceptions
from external_events_router.messaging.amqp import broker as brokers
from tests import base
from tests import certificates

#: Seconds for one connection.
TIMEOUT = 10.0


class CertificateTest(base.TestCase):
    """The certificate is for 127.0.0.1."""

    def setUp(self):
        super().setUp()
        self.authority = self.useFixture(certificates.Authority())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*self.authority.issue('broker'))

    def connect(self, address, **tls):
        """Connect to a server that ends the connection after the handshake.

        :returns: why there is no connection, and whether the client has accepted the certificate
        """
        handshakes = []

        def serve():
            # NOTE: the client tries again.
            while True:
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                connection.settimeout(TIMEOUT)
                try:
                    with self.context.wrap_socket(connection, server_side=True) as secure:
                        # NOTE: with TLS 1.3 a client refuses after the server's part of the handshake.
                        handshakes.append(bool(secure.recv(1)))
                except OSError:
                    handshakes.append(False)

        with socket.create_server((address, 0)) as listening:
            listening.settimeout(TIMEOUT)
            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            node = brokers.Node(address, listening.getsockname()[1], 'guest', 'guest')
            broker = brokers.Broker(nodes=[node], virtual_host='/', exchange='events', tls=tls)
            refused = self.assertRaises(exceptions.BrokerUnavailable, broker.connect, timeout=TIMEOUT)
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT)
        return str(refused), set(handshakes)

    def test_the_name_of_the_node_is_compared(self):
        trusted = {'ca_certs': str(self.authority.certificate), 'cert_reqs': ssl.CERT_REQUIRED}
        _reason, handshakes = self.connect('127.0.0.1', **trusted)
        self.assertEqual({True}, handshakes)
        reason, handshakes = self.connect('127.0.0.2', **trusted)
        self.assertIn("certificate is not valid for '127.0.0.2'", reason)
        self.assertEqual({False}, handshakes)

    def test_an_unknown_authority_is_refused(self):
        reason, handshakes = self.connect('127.0.0.1', cert_reqs=ssl.CERT_REQUIRED)
        self.assertIn('certificate verify failed', reason)
        self.assertEqual({False}, handshakes)

    def test_without_verification_each_certificate_is_accepted(self):
        _reason, handshakes = self.connect('127.0.0.2', cert_reqs=ssl.CERT_NONE)
        self.assertEqual({True}, handshakes)
