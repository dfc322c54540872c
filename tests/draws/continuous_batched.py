"""Random models of ContinuousBatchedEntropyModel, coded here and by TFC.

Tables, quantization offsets and strings must be those of TFC in a plain process, and each side must decode
the strings to the same values. `python -m tests.draws.continuous_batched N` compares N models; exit status 0
says that all are equal.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

import entropyd
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from entropyd_server.coding.kinds.continuous_batched import ContinuousBatchedCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.modeling.worker.table_shape import BuildLimits
from tests.draws.configs import ordinary_config
from tests.draws.run import NoTailsError, judged_search

if TYPE_CHECKING:
    import numpy.typing as npt

_LIMITS = BuildLimits(max_model_bytes=2**26, max_build_memory_bytes=2**32)
_UNITS = 5


def config(number: int) -> entropyd.ContinuousBatchedConfig:
    """A configuration with an offset that is computed, given in one of its shapes, or absent."""
    universal = ordinary_config(number)
    rng = np.random.default_rng([number, 7])
    shape = universal.prior_shape
    offset = None
    if rng.random() < 0.4:
        given = shape[-1:] if rng.random() < 0.7 else ()
        offset = rng.uniform(-0.5, 0.5, given).astype(rng.choice(["float32", "float64"]))
    return entropyd.ContinuousBatchedConfig(
        prior=universal.prior,
        coding_rank=2,
        tail_mass=universal.tail_mass,
        range_coder_precision=universal.range_coder_precision,
        bottleneck_dtype=str(rng.choice(BOTTLENECK_DTYPES)),
        offset_heuristic=bool(rng.random() < 0.8),
        quantization_offset=offset,
        decode_sanity_check=bool(rng.random() < 0.8),
    )


def bottleneck(config: entropyd.ContinuousBatchedConfig, number: int) -> npt.NDArray[Any]:
    """[units, 6, *prior_shape], or as many axes as coding_rank; values in and out of the tables."""
    rng = np.random.default_rng([number, 8])
    free = (6, 3)[: config.coding_rank - len(config.prior_shape)]
    shape = (_UNITS, *free, *config.prior_shape)
    values = np.where(rng.random(shape) < 0.1, rng.normal(0, 300, shape), rng.normal(0, 6, shape))
    return values.astype(numpy_dtype(config.bottleneck_dtype))


def compared(number: int) -> str:
    """`equal`, what differs, or why a model was not compared."""
    # Both import TensorFlow.
    from entropyd_server.modeling.worker.entropy_model import build_tables  # noqa: PLC0415
    from tests.support.tfc_continuous_batched import tfc_continuous_batched  # noqa: PLC0415

    given = config(number)
    try:
        raw = build_tables(given, _LIMITS).tables
    except entropyd.InvalidConfigError:
        return "refused"
    try:
        with judged_search():
            plain = tfc_continuous_batched(given)
    except NoTailsError as error:
        return str(error)
    offset = plain.quantization_offset
    if offset is not None:
        offset = np.broadcast_to(np.asarray(offset.numpy()), given.prior_shape).reshape(-1)
    if not all(map(_same, raw, (plain.cdf, plain.cdf_offset, offset))):
        return "other tables"
    return _coded(given, CodingTables.parse(*raw), plain, bottleneck(given, number))


def _same(ours: Any, theirs: Any) -> bool:
    return ours is theirs if ours is None or theirs is None else np.array_equal(ours, theirs)


def _coded(
    given: entropyd.ContinuousBatchedConfig, tables: CodingTables, plain: Any, x: npt.NDArray[Any]
) -> str:
    codec = ContinuousBatchedCodec.of(given, tables)
    free = x.shape[1 : x.ndim - len(given.prior_shape)]
    rows = codec.rows(free)
    encoded = codec.encode(x.reshape(_UNITS, -1).view(codec.wire_dtype), rows)
    if encoded.statuses.any():
        return f"units failed: {encoded.statuses}"
    strings = plain.compress(x).numpy().tolist()
    if b"".join(strings) != encoded.payload:
        return "other strings"
    decoded = codec.decode(encoded.payload, encoded.lengths, rows)
    restored = decoded.values.view(numpy_dtype(given.bottleneck_dtype)).reshape(x.shape)
    ends = np.cumsum(encoded.lengths)[:-1].tolist()
    pieces = [encoded.payload[a:b] for a, b in zip([0, *ends], [*ends, None], strict=True)]
    if restored.tobytes() != np.asarray(plain.decompress(pieces, free)).tobytes():
        return "other values"
    return "equal"


def main(count: int) -> None:
    """Compares so many models."""
    found = Counter(compared(number) for number in range(count))
    for how, times in found.most_common():
        print(f"{times:5} {how}")  # noqa: T201 - a program's output
    sys.exit(0 if all(how in {"equal", "refused"} or how.startswith("TFC's") for how in found) else 1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
