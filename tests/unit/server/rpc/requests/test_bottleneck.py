"""Laws of bottlenecks: Compress and Perturb take the same arrays, and refuse the others alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from entropyd import UniversalBatchedConfig, priors
from entropyd.contract.errors import InvalidTensorError, LimitExceededError
from entropyd.contract.symbols import SYMBOL_DTYPES
from entropyd.contract.wire import dtype_number
from entropyd.v1 import coding_pb2, model_pb2, types_pb2
from entropyd_server.rpc.requests.coding import parse_compress
from entropyd_server.rpc.requests.perturb import parse_perturb
from tests.unit.server.rpc.requests.test_coding import CODEC, LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, [1.0, 2.0, 3.0]), coding_rank=2)


def outcome(parse: Callable[[], tuple[int, ...]]) -> object:
    """The batch shape, or what the caller is told instead."""
    try:
        return parse()
    except (InvalidTensorError, LimitExceededError) as error:
        return error.message, error.metadata, error.violations


@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 65, 400]) | st.integers(-1, 2**63 - 1), max_size=5),
    st.sampled_from(sorted({*types_pb2.DType.values()}.difference(map(dtype_number, SYMBOL_DTYPES)))),
    st.booleans(),
)
def test_what_one_call_takes_the_other_takes_too(shape: list[int], dtype: int, whole: bool) -> None:
    elements = 1
    for length in shape:
        elements *= max(length, 0)
    data = bytes(4 * elements if whole and elements < 10_000 else 12)
    tensor = types_pb2.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    compress = coding_pb2.CompressRequest(bottleneck=tensor)
    perturb = model_pb2.PerturbRequest(bottleneck=tensor)
    assert outcome(lambda: parse_compress(compress, CODEC, LIMITS).batch_shape) == outcome(
        lambda: parse_perturb(perturb, CONFIG, LIMITS)[1]
    )
