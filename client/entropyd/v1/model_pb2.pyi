from entropyd.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TablesOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TABLES_ORIGIN_UNSPECIFIED: _ClassVar[TablesOrigin]
    TABLES_ORIGIN_BUILT: _ClassVar[TablesOrigin]
    TABLES_ORIGIN_SUPPLIED: _ClassVar[TablesOrigin]
    TABLES_ORIGIN_IMPORTED: _ClassVar[TablesOrigin]
TABLES_ORIGIN_UNSPECIFIED: TablesOrigin
TABLES_ORIGIN_BUILT: TablesOrigin
TABLES_ORIGIN_SUPPLIED: TablesOrigin
TABLES_ORIGIN_IMPORTED: TablesOrigin

class Model(_message.Message):
    __slots__ = ("model_id", "config", "tables_digest", "prior_shape", "table_rows", "table_bytes", "built_with", "create_time", "tables_origin")
    class BuiltWithEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    TABLES_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRIOR_SHAPE_FIELD_NUMBER: _ClassVar[int]
    TABLE_ROWS_FIELD_NUMBER: _ClassVar[int]
    TABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUILT_WITH_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    TABLES_ORIGIN_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    config: _types_pb2.ModelConfig
    tables_digest: bytes
    prior_shape: _containers.RepeatedScalarFieldContainer[int]
    table_rows: int
    table_bytes: int
    built_with: _containers.ScalarMap[str, str]
    create_time: _timestamp_pb2.Timestamp
    tables_origin: TablesOrigin
    def __init__(self, model_id: _Optional[str] = ..., config: _Optional[_Union[_types_pb2.ModelConfig, _Mapping]] = ..., tables_digest: _Optional[bytes] = ..., prior_shape: _Optional[_Iterable[int]] = ..., table_rows: _Optional[int] = ..., table_bytes: _Optional[int] = ..., built_with: _Optional[_Mapping[str, str]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., tables_origin: _Optional[_Union[TablesOrigin, str]] = ...) -> None: ...

class CreateModelRequest(_message.Message):
    __slots__ = ("config",)
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    config: _types_pb2.ModelConfig
    def __init__(self, config: _Optional[_Union[_types_pb2.ModelConfig, _Mapping]] = ...) -> None: ...

class CreateModelResponse(_message.Message):
    __slots__ = ("model", "created")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    model: Model
    created: bool
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., created: bool = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token", "damaged_model_ids")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    damaged_model_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., damaged_model_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class DeleteModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetModelNameRequest(_message.Message):
    __slots__ = ("name", "model_id", "expected_model_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_id: str
    expected_model_id: str
    def __init__(self, name: _Optional[str] = ..., model_id: _Optional[str] = ..., expected_model_id: _Optional[str] = ...) -> None: ...

class SetModelNameResponse(_message.Message):
    __slots__ = ("previous_model_id",)
    PREVIOUS_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    previous_model_id: str
    def __init__(self, previous_model_id: _Optional[str] = ...) -> None: ...

class DeleteModelNameRequest(_message.Message):
    __slots__ = ("name", "expected_model_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    expected_model_id: str
    def __init__(self, name: _Optional[str] = ..., expected_model_id: _Optional[str] = ...) -> None: ...

class DeleteModelNameResponse(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class ResolveModelNameRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ResolveModelNameResponse(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class ListModelNamesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ModelName(_message.Message):
    __slots__ = ("name", "model_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_id: str
    def __init__(self, name: _Optional[str] = ..., model_id: _Optional[str] = ...) -> None: ...

class ListModelNamesResponse(_message.Message):
    __slots__ = ("names", "next_page_token")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedCompositeFieldContainer[ModelName]
    next_page_token: str
    def __init__(self, names: _Optional[_Iterable[_Union[ModelName, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetTablesRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class GetTablesResponse(_message.Message):
    __slots__ = ("tables",)
    TABLES_FIELD_NUMBER: _ClassVar[int]
    tables: _types_pb2.Tables
    def __init__(self, tables: _Optional[_Union[_types_pb2.Tables, _Mapping]] = ...) -> None: ...

class NamedTensor(_message.Message):
    __slots__ = ("name", "tensor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    tensor: _types_pb2.Tensor
    def __init__(self, name: _Optional[str] = ..., tensor: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class GetWeightsRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class GetWeightsResponse(_message.Message):
    __slots__ = ("weights",)
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.RepeatedCompositeFieldContainer[NamedTensor]
    def __init__(self, weights: _Optional[_Iterable[_Union[NamedTensor, _Mapping]]] = ...) -> None: ...

class SetWeightsRequest(_message.Message):
    __slots__ = ("model_id", "weights")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    weights: _containers.RepeatedCompositeFieldContainer[_types_pb2.Tensor]
    def __init__(self, model_id: _Optional[str] = ..., weights: _Optional[_Iterable[_Union[_types_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class SetWeightsResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ExportModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class ExportModelResponse(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: bytes
    def __init__(self, object: _Optional[bytes] = ...) -> None: ...

class ImportModelRequest(_message.Message):
    __slots__ = ("object",)
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    object: bytes
    def __init__(self, object: _Optional[bytes] = ...) -> None: ...

class ImportModelResponse(_message.Message):
    __slots__ = ("model", "created")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    model: Model
    created: bool
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., created: bool = ...) -> None: ...

class PerturbRequest(_message.Message):
    __slots__ = ("model_id", "bottleneck", "training", "gradient", "indexes", "index_gradient", "first_unit")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    INDEX_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    FIRST_UNIT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    bottleneck: _types_pb2.Tensor
    training: bool
    gradient: bool
    indexes: _types_pb2.Tensor
    index_gradient: bool
    first_unit: int
    def __init__(self, model_id: _Optional[str] = ..., bottleneck: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., training: bool = ..., gradient: bool = ..., indexes: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., index_gradient: bool = ..., first_unit: _Optional[int] = ...) -> None: ...

class PerturbResponse(_message.Message):
    __slots__ = ("perturbed", "bits", "gradient", "index_gradient")
    PERTURBED_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    INDEX_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    perturbed: _types_pb2.Tensor
    bits: _types_pb2.Tensor
    gradient: _types_pb2.Tensor
    index_gradient: _types_pb2.Tensor
    def __init__(self, perturbed: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., bits: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., gradient: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., index_gradient: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class FitConfiguration(_message.Message):
    __slots__ = ("config", "max_steps", "validation_share")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_SHARE_FIELD_NUMBER: _ClassVar[int]
    config: _types_pb2.ModelConfig
    max_steps: int
    validation_share: float
    def __init__(self, config: _Optional[_Union[_types_pb2.ModelConfig, _Mapping]] = ..., max_steps: _Optional[int] = ..., validation_share: _Optional[float] = ...) -> None: ...

class FitModelRequest(_message.Message):
    __slots__ = ("configuration", "samples")
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    configuration: FitConfiguration
    samples: _types_pb2.Tensor
    def __init__(self, configuration: _Optional[_Union[FitConfiguration, _Mapping]] = ..., samples: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class FitProgress(_message.Message):
    __slots__ = ("step", "bits_per_element", "remaining_seconds")
    STEP_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_ELEMENT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    step: int
    bits_per_element: float
    remaining_seconds: float
    def __init__(self, step: _Optional[int] = ..., bits_per_element: _Optional[float] = ..., remaining_seconds: _Optional[float] = ...) -> None: ...

class FitModelResponse(_message.Message):
    __slots__ = ("progress", "model")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    progress: FitProgress
    model: Model
    def __init__(self, progress: _Optional[_Union[FitProgress, _Mapping]] = ..., model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...
