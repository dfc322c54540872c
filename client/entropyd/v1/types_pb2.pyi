from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    D_TYPE_UNSPECIFIED: _ClassVar[DType]
    D_TYPE_FLOAT16: _ClassVar[DType]
    D_TYPE_BFLOAT16: _ClassVar[DType]
    D_TYPE_FLOAT32: _ClassVar[DType]
    D_TYPE_FLOAT64: _ClassVar[DType]
    D_TYPE_INT32: _ClassVar[DType]
    D_TYPE_UINT8: _ClassVar[DType]
    D_TYPE_UINT16: _ClassVar[DType]
    D_TYPE_INT8: _ClassVar[DType]
    D_TYPE_INT16: _ClassVar[DType]

class RowBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_BY_UNSPECIFIED: _ClassVar[RowBy]
    ROW_BY_POSITION: _ClassVar[RowBy]
    ROW_BY_INDEX: _ClassVar[RowBy]

class Coder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODER_UNSPECIFIED: _ClassVar[Coder]
    CODER_RANGE: _ClassVar[Coder]
    CODER_RANS64: _ClassVar[Coder]
D_TYPE_UNSPECIFIED: DType
D_TYPE_FLOAT16: DType
D_TYPE_BFLOAT16: DType
D_TYPE_FLOAT32: DType
D_TYPE_FLOAT64: DType
D_TYPE_INT32: DType
D_TYPE_UINT8: DType
D_TYPE_UINT16: DType
D_TYPE_INT8: DType
D_TYPE_INT16: DType
ROW_BY_UNSPECIFIED: RowBy
ROW_BY_POSITION: RowBy
ROW_BY_INDEX: RowBy
CODER_UNSPECIFIED: Coder
CODER_RANGE: Coder
CODER_RANS64: Coder

class UnitNumbers(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("units", "crc32c")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    units: int
    crc32c: int
    def __init__(self, units: _Optional[int] = ..., crc32c: _Optional[int] = ...) -> None: ...

class CompressedTensor(_message.Message):
    __slots__ = ("format_version", "model_id", "tables_digest", "dtype", "batch_shape", "broadcast_shape", "payload", "lengths", "blocks", "indexes_crc32c", "unit_numbers")
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TABLES_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    BATCH_SHAPE_FIELD_NUMBER: _ClassVar[int]
    BROADCAST_SHAPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    INDEXES_CRC32C_FIELD_NUMBER: _ClassVar[int]
    UNIT_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    model_id: str
    tables_digest: bytes
    dtype: DType
    batch_shape: _containers.RepeatedScalarFieldContainer[int]
    broadcast_shape: _containers.RepeatedScalarFieldContainer[int]
    payload: bytes
    lengths: _containers.RepeatedScalarFieldContainer[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    indexes_crc32c: _containers.RepeatedScalarFieldContainer[int]
    unit_numbers: _containers.RepeatedCompositeFieldContainer[UnitNumbers]
    def __init__(self, format_version: _Optional[int] = ..., model_id: _Optional[str] = ..., tables_digest: _Optional[bytes] = ..., dtype: _Optional[_Union[DType, str]] = ..., batch_shape: _Optional[_Iterable[int]] = ..., broadcast_shape: _Optional[_Iterable[int]] = ..., payload: _Optional[bytes] = ..., lengths: _Optional[_Iterable[int]] = ..., blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., indexes_crc32c: _Optional[_Iterable[int]] = ..., unit_numbers: _Optional[_Iterable[_Union[UnitNumbers, _Mapping]]] = ...) -> None: ...

class BitStrings(_message.Message):
    __slots__ = ("model_id", "batch_shape", "broadcast_shape", "payload", "lengths", "unit_numbers")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_SHAPE_FIELD_NUMBER: _ClassVar[int]
    BROADCAST_SHAPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    UNIT_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    batch_shape: _containers.RepeatedScalarFieldContainer[int]
    broadcast_shape: _containers.RepeatedScalarFieldContainer[int]
    payload: bytes
    lengths: _containers.RepeatedScalarFieldContainer[int]
    unit_numbers: _containers.RepeatedCompositeFieldContainer[UnitNumbers]
    def __init__(self, model_id: _Optional[str] = ..., batch_shape: _Optional[_Iterable[int]] = ..., broadcast_shape: _Optional[_Iterable[int]] = ..., payload: _Optional[bytes] = ..., lengths: _Optional[_Iterable[int]] = ..., unit_numbers: _Optional[_Iterable[_Union[UnitNumbers, _Mapping]]] = ...) -> None: ...

class Tables(_message.Message):
    __slots__ = ("cdf", "cdf_offset", "digest", "quantization_offset")
    CDF_FIELD_NUMBER: _ClassVar[int]
    CDF_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_OFFSET_FIELD_NUMBER: _ClassVar[int]
    cdf: Tensor
    cdf_offset: Tensor
    digest: bytes
    quantization_offset: Tensor
    def __init__(self, cdf: _Optional[_Union[Tensor, _Mapping]] = ..., cdf_offset: _Optional[_Union[Tensor, _Mapping]] = ..., digest: _Optional[bytes] = ..., quantization_offset: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class PriorParameter(_message.Message):
    __slots__ = ("tensor", "number", "integers", "text", "prior", "function")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    tensor: Tensor
    number: float
    integers: Integers
    text: str
    prior: Prior
    function: IndexFunction
    def __init__(self, tensor: _Optional[_Union[Tensor, _Mapping]] = ..., number: _Optional[float] = ..., integers: _Optional[_Union[Integers, _Mapping]] = ..., text: _Optional[str] = ..., prior: _Optional[_Union[Prior, _Mapping]] = ..., function: _Optional[_Union[IndexFunction, _Mapping]] = ...) -> None: ...

class IndexFunction(_message.Message):
    __slots__ = ("name", "arguments", "axis")
    class ArgumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    name: str
    arguments: _containers.MessageMap[str, Tensor]
    axis: int
    def __init__(self, name: _Optional[str] = ..., arguments: _Optional[_Mapping[str, Tensor]] = ..., axis: _Optional[int] = ...) -> None: ...

class Integers(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...

class Prior(_message.Message):
    __slots__ = ("family", "parameters", "index_ranges")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: PriorParameter
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[PriorParameter, _Mapping]] = ...) -> None: ...
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INDEX_RANGES_FIELD_NUMBER: _ClassVar[int]
    family: str
    parameters: _containers.MessageMap[str, PriorParameter]
    index_ranges: Integers
    def __init__(self, family: _Optional[str] = ..., parameters: _Optional[_Mapping[str, PriorParameter]] = ..., index_ranges: _Optional[_Union[Integers, _Mapping]] = ...) -> None: ...

class UniversalBatchedConfig(_message.Message):
    __slots__ = ("prior", "coding_rank", "compression", "laplace_tail_mass", "expected_grads", "tail_mass", "range_coder_precision", "bottleneck_dtype", "num_noise_levels", "stateless", "decode_sanity_check", "tables")
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    CODING_RANK_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    LAPLACE_TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GRADS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    RANGE_CODER_PRECISION_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPE_FIELD_NUMBER: _ClassVar[int]
    NUM_NOISE_LEVELS_FIELD_NUMBER: _ClassVar[int]
    STATELESS_FIELD_NUMBER: _ClassVar[int]
    DECODE_SANITY_CHECK_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    prior: Prior
    coding_rank: int
    compression: bool
    laplace_tail_mass: float
    expected_grads: bool
    tail_mass: float
    range_coder_precision: int
    bottleneck_dtype: DType
    num_noise_levels: int
    stateless: bool
    decode_sanity_check: bool
    tables: Tables
    def __init__(self, prior: _Optional[_Union[Prior, _Mapping]] = ..., coding_rank: _Optional[int] = ..., compression: bool = ..., laplace_tail_mass: _Optional[float] = ..., expected_grads: bool = ..., tail_mass: _Optional[float] = ..., range_coder_precision: _Optional[int] = ..., bottleneck_dtype: _Optional[_Union[DType, str]] = ..., num_noise_levels: _Optional[int] = ..., stateless: bool = ..., decode_sanity_check: bool = ..., tables: _Optional[_Union[Tables, _Mapping]] = ...) -> None: ...

class ContinuousBatchedConfig(_message.Message):
    __slots__ = ("prior", "coding_rank", "compression", "stateless", "expected_grads", "tail_mass", "range_coder_precision", "bottleneck_dtype", "prior_shape", "cdf", "cdf_offset", "offset_heuristic", "quantization_offset", "decode_sanity_check", "laplace_tail_mass")
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    CODING_RANK_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    STATELESS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GRADS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    RANGE_CODER_PRECISION_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_SHAPE_FIELD_NUMBER: _ClassVar[int]
    CDF_FIELD_NUMBER: _ClassVar[int]
    CDF_OFFSET_FIELD_NUMBER: _ClassVar[int]
    OFFSET_HEURISTIC_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DECODE_SANITY_CHECK_FIELD_NUMBER: _ClassVar[int]
    LAPLACE_TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    prior: Prior
    coding_rank: int
    compression: bool
    stateless: bool
    expected_grads: bool
    tail_mass: float
    range_coder_precision: int
    bottleneck_dtype: DType
    prior_shape: Integers
    cdf: Tensor
    cdf_offset: Tensor
    offset_heuristic: bool
    quantization_offset: Tensor
    decode_sanity_check: bool
    laplace_tail_mass: float
    def __init__(self, prior: _Optional[_Union[Prior, _Mapping]] = ..., coding_rank: _Optional[int] = ..., compression: bool = ..., stateless: bool = ..., expected_grads: bool = ..., tail_mass: _Optional[float] = ..., range_coder_precision: _Optional[int] = ..., bottleneck_dtype: _Optional[_Union[DType, str]] = ..., prior_shape: _Optional[_Union[Integers, _Mapping]] = ..., cdf: _Optional[_Union[Tensor, _Mapping]] = ..., cdf_offset: _Optional[_Union[Tensor, _Mapping]] = ..., offset_heuristic: bool = ..., quantization_offset: _Optional[_Union[Tensor, _Mapping]] = ..., decode_sanity_check: bool = ..., laplace_tail_mass: _Optional[float] = ...) -> None: ...

class ContinuousIndexedConfig(_message.Message):
    __slots__ = ("prior", "coding_rank", "compression", "stateless", "expected_grads", "tail_mass", "range_coder_precision", "bottleneck_dtype", "prior_dtype", "decode_sanity_check", "laplace_tail_mass", "tables", "channel_axis", "no_channel_axis")
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    CODING_RANK_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    STATELESS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GRADS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    RANGE_CODER_PRECISION_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_DTYPE_FIELD_NUMBER: _ClassVar[int]
    DECODE_SANITY_CHECK_FIELD_NUMBER: _ClassVar[int]
    LAPLACE_TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_AXIS_FIELD_NUMBER: _ClassVar[int]
    NO_CHANNEL_AXIS_FIELD_NUMBER: _ClassVar[int]
    prior: Prior
    coding_rank: int
    compression: bool
    stateless: bool
    expected_grads: bool
    tail_mass: float
    range_coder_precision: int
    bottleneck_dtype: DType
    prior_dtype: DType
    decode_sanity_check: bool
    laplace_tail_mass: float
    tables: Tables
    channel_axis: int
    no_channel_axis: bool
    def __init__(self, prior: _Optional[_Union[Prior, _Mapping]] = ..., coding_rank: _Optional[int] = ..., compression: bool = ..., stateless: bool = ..., expected_grads: bool = ..., tail_mass: _Optional[float] = ..., range_coder_precision: _Optional[int] = ..., bottleneck_dtype: _Optional[_Union[DType, str]] = ..., prior_dtype: _Optional[_Union[DType, str]] = ..., decode_sanity_check: bool = ..., laplace_tail_mass: _Optional[float] = ..., tables: _Optional[_Union[Tables, _Mapping]] = ..., channel_axis: _Optional[int] = ..., no_channel_axis: bool = ...) -> None: ...

class LocationScaleIndexedConfig(_message.Message):
    __slots__ = ("prior", "coding_rank", "compression", "stateless", "expected_grads", "tail_mass", "range_coder_precision", "bottleneck_dtype", "prior_dtype", "laplace_tail_mass", "tables")
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    CODING_RANK_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    STATELESS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GRADS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    RANGE_CODER_PRECISION_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_DTYPE_FIELD_NUMBER: _ClassVar[int]
    LAPLACE_TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    prior: Prior
    coding_rank: int
    compression: bool
    stateless: bool
    expected_grads: bool
    tail_mass: float
    range_coder_precision: int
    bottleneck_dtype: DType
    prior_dtype: DType
    laplace_tail_mass: float
    tables: Tables
    def __init__(self, prior: _Optional[_Union[Prior, _Mapping]] = ..., coding_rank: _Optional[int] = ..., compression: bool = ..., stateless: bool = ..., expected_grads: bool = ..., tail_mass: _Optional[float] = ..., range_coder_precision: _Optional[int] = ..., bottleneck_dtype: _Optional[_Union[DType, str]] = ..., prior_dtype: _Optional[_Union[DType, str]] = ..., laplace_tail_mass: _Optional[float] = ..., tables: _Optional[_Union[Tables, _Mapping]] = ...) -> None: ...

class UniversalIndexedConfig(_message.Message):
    __slots__ = ("prior", "coding_rank", "compression", "stateless", "expected_grads", "tail_mass", "range_coder_precision", "bottleneck_dtype", "prior_dtype", "decode_sanity_check", "laplace_tail_mass", "tables", "num_noise_levels")
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    CODING_RANK_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    STATELESS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GRADS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    RANGE_CODER_PRECISION_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_DTYPE_FIELD_NUMBER: _ClassVar[int]
    DECODE_SANITY_CHECK_FIELD_NUMBER: _ClassVar[int]
    LAPLACE_TAIL_MASS_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    NUM_NOISE_LEVELS_FIELD_NUMBER: _ClassVar[int]
    prior: Prior
    coding_rank: int
    compression: bool
    stateless: bool
    expected_grads: bool
    tail_mass: float
    range_coder_precision: int
    bottleneck_dtype: DType
    prior_dtype: DType
    decode_sanity_check: bool
    laplace_tail_mass: float
    tables: Tables
    num_noise_levels: int
    def __init__(self, prior: _Optional[_Union[Prior, _Mapping]] = ..., coding_rank: _Optional[int] = ..., compression: bool = ..., stateless: bool = ..., expected_grads: bool = ..., tail_mass: _Optional[float] = ..., range_coder_precision: _Optional[int] = ..., bottleneck_dtype: _Optional[_Union[DType, str]] = ..., prior_dtype: _Optional[_Union[DType, str]] = ..., decode_sanity_check: bool = ..., laplace_tail_mass: _Optional[float] = ..., tables: _Optional[_Union[Tables, _Mapping]] = ..., num_noise_levels: _Optional[int] = ...) -> None: ...

class PowerLawConfig(_message.Message):
    __slots__ = ("coding_rank", "alpha", "bottleneck_dtype")
    CODING_RANK_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPE_FIELD_NUMBER: _ClassVar[int]
    coding_rank: int
    alpha: float
    bottleneck_dtype: DType
    def __init__(self, coding_rank: _Optional[int] = ..., alpha: _Optional[float] = ..., bottleneck_dtype: _Optional[_Union[DType, str]] = ...) -> None: ...

class TabulatedConfig(_message.Message):
    __slots__ = ("tables", "coding_rank", "row_by", "row_shape", "coder", "bottleneck_dtype", "quantization_offset")
    TABLES_FIELD_NUMBER: _ClassVar[int]
    CODING_RANK_FIELD_NUMBER: _ClassVar[int]
    ROW_BY_FIELD_NUMBER: _ClassVar[int]
    ROW_SHAPE_FIELD_NUMBER: _ClassVar[int]
    CODER_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_OFFSET_FIELD_NUMBER: _ClassVar[int]
    tables: Tables
    coding_rank: int
    row_by: RowBy
    row_shape: Integers
    coder: Coder
    bottleneck_dtype: DType
    quantization_offset: Tensor
    def __init__(self, tables: _Optional[_Union[Tables, _Mapping]] = ..., coding_rank: _Optional[int] = ..., row_by: _Optional[_Union[RowBy, str]] = ..., row_shape: _Optional[_Union[Integers, _Mapping]] = ..., coder: _Optional[_Union[Coder, str]] = ..., bottleneck_dtype: _Optional[_Union[DType, str]] = ..., quantization_offset: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class ModelConfig(_message.Message):
    __slots__ = ("universal_batched", "continuous_batched", "continuous_indexed", "location_scale_indexed", "universal_indexed", "power_law", "tabulated")
    UNIVERSAL_BATCHED_FIELD_NUMBER: _ClassVar[int]
    CONTINUOUS_BATCHED_FIELD_NUMBER: _ClassVar[int]
    CONTINUOUS_INDEXED_FIELD_NUMBER: _ClassVar[int]
    LOCATION_SCALE_INDEXED_FIELD_NUMBER: _ClassVar[int]
    UNIVERSAL_INDEXED_FIELD_NUMBER: _ClassVar[int]
    POWER_LAW_FIELD_NUMBER: _ClassVar[int]
    TABULATED_FIELD_NUMBER: _ClassVar[int]
    universal_batched: UniversalBatchedConfig
    continuous_batched: ContinuousBatchedConfig
    continuous_indexed: ContinuousIndexedConfig
    location_scale_indexed: LocationScaleIndexedConfig
    universal_indexed: UniversalIndexedConfig
    power_law: PowerLawConfig
    tabulated: TabulatedConfig
    def __init__(self, universal_batched: _Optional[_Union[UniversalBatchedConfig, _Mapping]] = ..., continuous_batched: _Optional[_Union[ContinuousBatchedConfig, _Mapping]] = ..., continuous_indexed: _Optional[_Union[ContinuousIndexedConfig, _Mapping]] = ..., location_scale_indexed: _Optional[_Union[LocationScaleIndexedConfig, _Mapping]] = ..., universal_indexed: _Optional[_Union[UniversalIndexedConfig, _Mapping]] = ..., power_law: _Optional[_Union[PowerLawConfig, _Mapping]] = ..., tabulated: _Optional[_Union[TabulatedConfig, _Mapping]] = ...) -> None: ...
