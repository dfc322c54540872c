"""The coders that are compared, a process each: `python -m benchmarks.coder_peers NAME` serves on its pipes.

Owns how each coder is called, in the fastest way that its users have. It must not know what is compared.
Invariant: a line on standard input (JSON: case, operation, seconds) is answered by one on standard output
(JSON: median seconds of a call, repeats, bytes, digest); anything a library prints goes to standard error.

- `entropyd`: `rows` or `rows_of`, and `encode` or `decode` of a codec, as the server calls them.
- `tfc-1`, `tfc-2`: `UniversalBatchedEntropyModel.compress` or `.decompress`, for a case with indexes those of
  `LocationScaleIndexedEntropyModel`, in a tf.function, with that many intra-op threads and our tables put in
  place of its own.
- `tfc-ops`: only its range coding ops and quantization, one thread; indexes and offsets are constants.
- `constriction`: its range coder with a quantized Gaussian per symbol. Another bit stream.
- `compressai`: its rANS with 16-bit tables from the same densities, symbols given as lists. Another stream.
"""

# ruff: noqa: PLC0415, SLF001 -- each process imports its own library; TFC has no way to be given tables.
from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.coder_cases import NOISE_LEVELS, Case, IndexedCase

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.coding.rows import Rows
    from entropyd_server.coding.table_codec import TableCodec


class Coder(NamedTuple):
    """Encode and decode of one case, its bytes, and their hash where other coders write the same ones."""

    encode: Callable[[], object]
    decode: Callable[[], object]
    payload_bytes: int
    digest: str = ""

    def call(self, operation: str) -> Callable[[], object]:
        """The operation of that name."""
        return self.encode if operation == "encode" else self.decode


def entropyd(case: Case | IndexedCase) -> Coder:
    """Our codec."""
    from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
    from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
    from entropyd_server.coding.tables import CodingTables
    from entropyd_server.kernels.jit import kernel_input

    common: dict[str, Any] = {
        "model_id": "benchmark",
        "tables": CodingTables.parse(*case.tables(case.precision)),
        "coding_rank": 3,
        "bottleneck_dtype": "float32",
    }
    codec: TableCodec
    rows: Callable[[], Rows]
    if isinstance(case, IndexedCase):
        codec = indexed = ContinuousIndexedCodec(index_ranges=(case.scales,), **common)
        # Read-only, as they are in requests.
        plane, numbers = kernel_input(case.indexes.reshape(case.units, -1)), np.arange(case.units)
        rows = partial(indexed.rows_of, plane, case.unit_shape, numbers)
    else:
        codec = batched = UniversalBatchedCodec(
            prior_shape=(case.channels,), num_noise_levels=NOISE_LEVELS, **common
        )
        rows = partial(batched.rows, (case.height, case.width))
    values = kernel_input(case.values.reshape(case.units, -1))
    encoded = codec.encode(values, rows())
    decoded = codec.decode(encoded.payload, encoded.lengths, rows())
    if np.abs(decoded.values - values).max() > 0.501:
        raise RuntimeError("the codec does not restore the values")
    return Coder(
        lambda: codec.encode(values, rows()),
        lambda: codec.decode(encoded.payload, encoded.lengths, rows()),
        len(encoded.payload),
        hashlib.sha256(encoded.payload).hexdigest(),
    )


def tfc(case: Case | IndexedCase, threads: int, *, ops_only: bool = False) -> Coder:
    """TensorFlow Compression."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    import tensorflow_compression as tfc

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    scale = tf.constant(case.scale, tf.float32)
    values = tf.constant(case.values)
    encode: Any
    decode: Any
    if isinstance(case, IndexedCase):
        model = tfc.LocationScaleIndexedEntropyModel(
            tfc.NoisyNormal, case.scales, lambda index: tf.gather(scale, tf.cast(index, tf.int32)), 3
        )
        indexes = tf.constant(case.indexes.astype(np.int32))
        _put_tables(model, case)
        encode = tf.function(lambda values: model.compress(values, indexes))
        decode = tf.function(lambda strings: model.decompress(strings, indexes))
        offset = tf.constant(0.0)
    else:
        prior = tfc.NoisyNormal(loc=tf.zeros(case.channels), scale=scale)
        model = tfc.UniversalBatchedEntropyModel(prior, 3, num_noise_levels=NOISE_LEVELS)
        _put_tables(model, case)
        shape = (case.height, case.width)
        encode = tf.function(model.compress)
        decode = tf.function(lambda strings: model.decompress(strings, shape))
        index, offset = model._compute_indexes_and_offset(shape)
        indexes = tf.broadcast_to(index, (case.units, *index.shape))
    if ops_only:
        encode, decode = _bare_ops(model, indexes, offset)
    strings = encode(values)
    payload = b"".join(strings.numpy())
    return Coder(
        lambda: encode(values).numpy(),
        lambda: decode(strings).numpy(),
        len(payload),
        hashlib.sha256(payload).hexdigest(),
    )


def _put_tables(model: Any, case: Case | IndexedCase) -> None:
    """Building takes TFC seconds to minutes; the tables of the case are put in instead."""
    model._compression = True
    model._cdf, model._cdf_offset = case.tables(case.precision)


def _bare_ops(model: Any, indexes: Any, offset: Any) -> tuple[Any, Any]:
    """Encode and decode with TFC's ops alone; `indexes` [units, ...] and offset are constants."""
    import tensorflow as tf
    from tensorflow_compression.python.ops import gen_ops

    row_offset = tf.gather(model.cdf_offset, indexes)

    @tf.function  # type: ignore[untyped-decorator]
    def encode(values: Any) -> Any:
        symbols = tf.cast(tf.round(values - offset), tf.int32) - row_offset
        handle = gen_ops.create_range_encoder(indexes.shape[:1], model.cdf)
        handle = gen_ops.entropy_encode_index(handle, indexes, symbols)
        return gen_ops.entropy_encode_finalize(handle)

    @tf.function  # type: ignore[untyped-decorator]
    def decode(strings: Any) -> Any:
        handle = gen_ops.create_range_decoder(strings, model.cdf)
        handle, symbols = gen_ops.entropy_decode_index(handle, indexes, indexes.shape[1:], tf.int32)
        sane = tf.reduce_all(gen_ops.entropy_decode_finalize(handle))
        with tf.control_dependencies([tf.debugging.Assert(sane, [sane])]):
            return tf.cast(symbols + row_offset, tf.float32) + offset

    return encode, decode


def constriction(case: Case) -> Coder:
    """Constriction's range coder."""
    import constriction as library  # type: ignore[import-untyped, import-not-found, unused-ignore]

    queue, reach = library.stream.queue, int(2 ** np.ceil(np.log2(8 * case.high_scale + 2)))
    family = library.stream.model.QuantizedGaussian(-reach, reach)
    units = np.clip(case.integers, -reach, reach).reshape(case.units, -1)
    means = (-case.rows.offsets).astype(np.float64)
    scales = np.tile(case.scale, case.height * case.width)

    def encode() -> list[Any]:
        strings = []
        for unit in units:
            encoder = queue.RangeEncoder()
            encoder.encode(unit, family, means, scales)
            strings.append(encoder.get_compressed())
        return strings

    strings = encode()
    return Coder(
        encode,
        lambda: [queue.RangeDecoder(string).decode(family, means, scales) for string in strings],
        sum(string.nbytes for string in strings),
    )


def compressai(case: Case) -> Coder:
    """CompressAI's rANS."""
    from compressai.ans import (  # type: ignore[import-untyped, import-not-found, unused-ignore]
        RansDecoder,
        RansEncoder,
    )

    flat, cdf_offset = case.tables(16)
    heads = np.flatnonzero(flat < 0)
    # Its bypass symbol is the last interval, as our escape; rows are padded to a common length.
    cdfs = [row[1:].tolist() for row in np.split(flat, heads[1:])]
    sizes, offsets = [len(row) for row in cdfs], cdf_offset.tolist()
    units = [unit.tolist() for unit in case.integers.reshape(case.units, -1)]
    index = case.rows.row_index.tolist()
    encoder, decoder = RansEncoder(), RansDecoder()

    def encode() -> list[bytes]:
        return [encoder.encode_with_indexes(unit, index, cdfs, sizes, offsets) for unit in units]

    strings = encode()
    return Coder(
        encode,
        lambda: [decoder.decode_with_indexes(string, index, cdfs, sizes, offsets) for string in strings],
        sum(map(len, strings)),
    )


PEERS: dict[str, Callable[[Any], Coder]] = {
    "entropyd": entropyd,
    "tfc-1": lambda case: tfc(case, 1),
    "tfc-2": lambda case: tfc(case, 2),
    "tfc-ops": lambda case: tfc(case, 1, ops_only=True),
    "constriction": constriction,
    "compressai": compressai,
}


def median_seconds(call: Callable[[], object], seconds: float) -> tuple[float, int]:
    """Median time of a call, repeated for `seconds` but three times at least, and the number of repeats."""
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < stop:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)), len(times)


def serve(name: str) -> None:
    """Answers requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    case, coder = None, None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            asked = (IndexedCase if "scales" in request["case"] else Case)(**request["case"])
            if case != asked or coder is None:
                case, coder = asked, PEERS[name](asked)
                coder.encode()
                coder.decode()
            median, repeats = median_seconds(coder.call(request["operation"]), request["seconds"])
            answer: dict[str, object] = {"seconds": median, "repeats": repeats, "bytes": coder.payload_bytes}
            answer["digest"] = coder.digest
        except ImportError as error:
            answer = {"missing": str(error)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    serve(sys.argv[1])
