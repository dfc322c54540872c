from entropyd.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_POLICY_UNSPECIFIED: _ClassVar[ErrorPolicy]
    ERROR_POLICY_FAIL: _ClassVar[ErrorPolicy]
    ERROR_POLICY_SKIP: _ClassVar[ErrorPolicy]

class UnitErrorCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNIT_ERROR_CAUSE_UNSPECIFIED: _ClassVar[UnitErrorCause]
    UNIT_ERROR_CAUSE_CHECKSUM: _ClassVar[UnitErrorCause]
    UNIT_ERROR_CAUSE_ESCAPE_TOO_LONG: _ClassVar[UnitErrorCause]
    UNIT_ERROR_CAUSE_SANITY_CHECK: _ClassVar[UnitErrorCause]
    UNIT_ERROR_CAUSE_INDEXES: _ClassVar[UnitErrorCause]
ERROR_POLICY_UNSPECIFIED: ErrorPolicy
ERROR_POLICY_FAIL: ErrorPolicy
ERROR_POLICY_SKIP: ErrorPolicy
UNIT_ERROR_CAUSE_UNSPECIFIED: UnitErrorCause
UNIT_ERROR_CAUSE_CHECKSUM: UnitErrorCause
UNIT_ERROR_CAUSE_ESCAPE_TOO_LONG: UnitErrorCause
UNIT_ERROR_CAUSE_SANITY_CHECK: UnitErrorCause
UNIT_ERROR_CAUSE_INDEXES: UnitErrorCause

class CompressRequest(_message.Message):
    __slots__ = ("model_id", "bottleneck", "first_unit", "indexes")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_FIELD_NUMBER: _ClassVar[int]
    FIRST_UNIT_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    bottleneck: _types_pb2.Tensor
    first_unit: int
    indexes: _types_pb2.Tensor
    def __init__(self, model_id: _Optional[str] = ..., bottleneck: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., first_unit: _Optional[int] = ..., indexes: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class CompressResponse(_message.Message):
    __slots__ = ("compressed", "rate")
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    compressed: _types_pb2.CompressedTensor
    rate: RateReport
    def __init__(self, compressed: _Optional[_Union[_types_pb2.CompressedTensor, _Mapping]] = ..., rate: _Optional[_Union[RateReport, _Mapping]] = ...) -> None: ...

class RateReport(_message.Message):
    __slots__ = ("symbols", "escaped_symbols", "uncompressed_bytes", "compressed_bytes")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    ESCAPED_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    UNCOMPRESSED_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_BYTES_FIELD_NUMBER: _ClassVar[int]
    symbols: int
    escaped_symbols: int
    uncompressed_bytes: int
    compressed_bytes: int
    def __init__(self, symbols: _Optional[int] = ..., escaped_symbols: _Optional[int] = ..., uncompressed_bytes: _Optional[int] = ..., compressed_bytes: _Optional[int] = ...) -> None: ...

class UnitRange(_message.Message):
    __slots__ = ("start", "count")
    START_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    start: int
    count: int
    def __init__(self, start: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class DecompressRequest(_message.Message):
    __slots__ = ("compressed", "bit_strings", "units", "error_policy", "indexes", "symbols")
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    BIT_STRINGS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    ERROR_POLICY_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    compressed: _types_pb2.CompressedTensor
    bit_strings: _types_pb2.BitStrings
    units: _containers.RepeatedCompositeFieldContainer[UnitRange]
    error_policy: ErrorPolicy
    indexes: _types_pb2.Tensor
    symbols: bool
    def __init__(self, compressed: _Optional[_Union[_types_pb2.CompressedTensor, _Mapping]] = ..., bit_strings: _Optional[_Union[_types_pb2.BitStrings, _Mapping]] = ..., units: _Optional[_Iterable[_Union[UnitRange, _Mapping]]] = ..., error_policy: _Optional[_Union[ErrorPolicy, str]] = ..., indexes: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., symbols: bool = ...) -> None: ...

class DecompressResponse(_message.Message):
    __slots__ = ("tensor", "unit_errors")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    UNIT_ERRORS_FIELD_NUMBER: _ClassVar[int]
    tensor: _types_pb2.Tensor
    unit_errors: _containers.RepeatedCompositeFieldContainer[UnitError]
    def __init__(self, tensor: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., unit_errors: _Optional[_Iterable[_Union[UnitError, _Mapping]]] = ...) -> None: ...

class UnitError(_message.Message):
    __slots__ = ("unit", "cause", "element")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_FIELD_NUMBER: _ClassVar[int]
    unit: int
    cause: UnitErrorCause
    element: int
    def __init__(self, unit: _Optional[int] = ..., cause: _Optional[_Union[UnitErrorCause, str]] = ..., element: _Optional[int] = ...) -> None: ...

class StreamStatus(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CompressStreamRequest(_message.Message):
    __slots__ = ("request_id", "request")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    request: CompressRequest
    def __init__(self, request_id: _Optional[str] = ..., request: _Optional[_Union[CompressRequest, _Mapping]] = ...) -> None: ...

class CompressStreamResponse(_message.Message):
    __slots__ = ("request_id", "status", "response")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    status: StreamStatus
    response: CompressResponse
    def __init__(self, request_id: _Optional[str] = ..., status: _Optional[_Union[StreamStatus, _Mapping]] = ..., response: _Optional[_Union[CompressResponse, _Mapping]] = ...) -> None: ...

class DecompressStreamRequest(_message.Message):
    __slots__ = ("request_id", "request")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    request: DecompressRequest
    def __init__(self, request_id: _Optional[str] = ..., request: _Optional[_Union[DecompressRequest, _Mapping]] = ...) -> None: ...

class DecompressStreamResponse(_message.Message):
    __slots__ = ("request_id", "status", "response")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    status: StreamStatus
    response: DecompressResponse
    def __init__(self, request_id: _Optional[str] = ..., status: _Optional[_Union[StreamStatus, _Mapping]] = ..., response: _Optional[_Union[DecompressResponse, _Mapping]] = ...) -> None: ...
