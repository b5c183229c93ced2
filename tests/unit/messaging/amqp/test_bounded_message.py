import bz2
import lzma
import types
import zlib

from kombu import exceptions
from kombu.transport import pyamqp

from external_events_router.messaging.amqp import bounded_message
from tests import base

#: Bytes that a message may have.
LONGEST = 1000

PLAIN = b'"text"'

#: The name of a compression in a message to what compresses.
COMPRESSIONS = {
    'application/x-gzip': zlib.compress,
    'gzip': zlib.compress,
    'application/x-bz2': bz2.compress,
    'bzip': bz2.compress,
    'application/x-lzma': lzma.compress,
    'xz': lzma.compress,
}

#: ``PLAIN`` with a dictionary of 1 GiB. To compress it takes ten times as much memory, and seconds.
LARGE_DICTIONARY = bytes.fromhex(
    'fd377a585a000004e6d6b44602002101240000005e1fc7f901000522746578742200000086af0553d75f5c3e00011e06'
    'c12fa41d1fb6f37d010000000004595a'
)


class BoundedMessageTest(base.TestCase):
    def receive(self, body, compression=None, **options):
        properties = {'content_type': 'application/json', 'content_encoding': 'utf-8'}
        if compression is not None:
            properties['application_headers'] = {'compression': compression, 'other': 1}
        raw = types.SimpleNamespace(body=body, properties=properties, delivery_tag=1, delivery_info={})
        return bounded_message.BoundedMessage(raw, longest=LONGEST, **options)

    def problem(self, *args, **options):
        message = self.receive(*args, **options)
        self.assertIn(len(message.body), (0, len(PLAIN)))
        return str(self.assertRaises(exceptions.DecodeError, lambda: message.payload))

    def test_ordinary_messages(self):
        self.assertEqual('text', self.receive(PLAIN).payload)
        for name, compress in COMPRESSIONS.items():
            message = self.receive(compress(PLAIN), name)
            self.assertEqual('text', message.payload, name)
            self.assertEqual({'other': 1}, message.headers)

    def test_a_large_message_is_an_error(self):
        self.assertEqual('x' * (LONGEST - 2), self.receive(b'"%s"' % (b'x' * (LONGEST - 2))).payload)
        self.assertEqual('it has more than 1000 bytes', self.problem(b'"%s"' % (b'x' * (LONGEST - 1))))

    def test_a_message_that_is_large_once_it_is_decompressed_is_an_error(self):
        for name, compress in COMPRESSIONS.items():
            self.assertEqual(
                'it has more than 1000 bytes', self.problem(compress(b' ' * 1_000_000), name), name
            )

    def test_decompression_stops_at_the_limit(self):
        made = []
        decompressor = bz2.BZ2Decompressor()

        def decompress(body, most):
            made.append(decompressor.decompress(body, most))
            return made[-1]

        self.patch(
            bounded_message,
            '_DECOMPRESSORS',
            {'bzip2': lambda: types.SimpleNamespace(decompress=decompress, eof=False)},
        )
        self.problem(bz2.compress(b' ' * 1_000_000), 'bzip2')
        self.assertEqual(LONGEST + 1, sum(map(len, made)))

    def test_what_cannot_be_decompressed_is_an_error(self):
        for name, compress in COMPRESSIONS.items():
            self.assertIn('cannot be decompressed', self.problem(b'nonsense', name), name)
            self.assertEqual(
                'its compressed body ends too early', self.problem(compress(PLAIN)[:-6], name), name
            )

    def test_a_dictionary_of_lzma_that_takes_much_memory_is_an_error(self):
        self.assertEqual(PLAIN, lzma.decompress(LARGE_DICTIONARY))
        self.assertIn('cannot be decompressed (LZMAError)', self.problem(LARGE_DICTIONARY, 'xz'))

    def test_an_unknown_compression_is_an_error(self):
        for name in ('no-such', 'application/zstd', 7, ['gzip'], {'a': 1}, 'gzip\x1b[2J'):
            self.assertIn('is not known', self.problem(PLAIN, name))

    def test_the_configured_compression_is_left_to_kombu(self):
        message = self.receive(PLAIN, 'application/no-such', trusted='application/no-such')
        # Its own error, because it does not know this one.
        self.assertRaises(KeyError, lambda: message.payload)
        self.assertIsInstance(message, pyamqp.Message)
