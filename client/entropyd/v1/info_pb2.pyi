from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "roles", "devices", "limits", "format_versions", "bottleneck_dtypes", "symbols")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_DTYPES_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    version: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    devices: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    format_versions: _containers.RepeatedScalarFieldContainer[int]
    bottleneck_dtypes: _containers.RepeatedScalarFieldContainer[str]
    symbols: bool
    def __init__(self, version: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., devices: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., format_versions: _Optional[_Iterable[int]] = ..., bottleneck_dtypes: _Optional[_Iterable[str]] = ..., symbols: bool = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_model_bytes", "max_units", "max_rank", "max_page_size", "max_build_seconds", "max_stream_inflight", "max_concurrent_calls", "max_models_per_caller", "max_fields")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_UNITS_FIELD_NUMBER: _ClassVar[int]
    MAX_RANK_FIELD_NUMBER: _ClassVar[int]
    MAX_PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_BUILD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAM_INFLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_CALLS_FIELD_NUMBER: _ClassVar[int]
    MAX_MODELS_PER_CALLER_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELDS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_model_bytes: int
    max_units: int
    max_rank: int
    max_page_size: int
    max_build_seconds: float
    max_stream_inflight: int
    max_concurrent_calls: int
    max_models_per_caller: int
    max_fields: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_model_bytes: _Optional[int] = ..., max_units: _Optional[int] = ..., max_rank: _Optional[int] = ..., max_page_size: _Optional[int] = ..., max_build_seconds: _Optional[float] = ..., max_stream_inflight: _Optional[int] = ..., max_concurrent_calls: _Optional[int] = ..., max_models_per_caller: _Optional[int] = ..., max_fields: _Optional[int] = ...) -> None: ...
