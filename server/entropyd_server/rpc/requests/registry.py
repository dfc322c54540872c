"""Parses the requests for stored models, and renders models."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import timestamp_pb2

from entropyd.contract.dtypes import are_finite, widened
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError, Violation
from entropyd.contract.kinds import config_to_message
from entropyd.contract.names import checked_name
from entropyd.contract.parameters import Array
from entropyd.contract.wire import array_from_message
from entropyd.v1 import model_pb2, types_pb2
from entropyd_server.limits import Limits
from entropyd_server.models.cache import checked_model_id
from entropyd_server.models.weights import weights_of
from entropyd_server.store.model_object import TablesOrigin
from entropyd_server.store.model_store import StoredModel

_DEFAULT_PAGE_SIZE = 50
# As in TFC, tables may have another length, as those of another density usually do.
_RESIZABLE = ("cdf", "cdf_offset")
_ORIGINS = {
    TablesOrigin.UNKNOWN: model_pb2.TABLES_ORIGIN_UNSPECIFIED,
    TablesOrigin.BUILT: model_pb2.TABLES_ORIGIN_BUILT,
    TablesOrigin.SUPPLIED: model_pb2.TABLES_ORIGIN_SUPPLIED,
    TablesOrigin.IMPORTED: model_pb2.TABLES_ORIGIN_IMPORTED,
}


def parse_page(request: model_pb2.ListModelsRequest, limits: Limits) -> tuple[int, str]:
    """Returns the size of a page, and the model id after which it begins; "" for the first page.

    Raises:
      InvalidRequestError: If the size is out of range, or the token is none of ours.
    """
    return _page_size(request.page_size, limits), request.page_token and checked_model_id(request.page_token)


def parse_names_page(request: model_pb2.ListModelNamesRequest, limits: Limits) -> tuple[int, str]:
    """Does the same for a page of names, which begins after a name."""
    token = request.page_token
    return _page_size(request.page_size, limits), token and checked_name(token, "page_token")


def _page_size(page_size: int, limits: Limits) -> int:
    page_size = page_size or min(_DEFAULT_PAGE_SIZE, limits.max_page_size)
    if not 1 <= page_size <= limits.max_page_size:
        found = f"is {page_size}; expected 1 to {limits.max_page_size}"
        raise InvalidRequestError.at("page_size", found)
    return page_size


def parse_expected(request: model_pb2.SetModelNameRequest | model_pb2.DeleteModelNameRequest) -> str | None:
    """Returns the id that a name has to point at, "" for none, None for whatever it points at.

    Raises:
      InvalidRequestError: If it is malformed.
    """
    if not request.HasField("expected_model_id"):
        return None
    return request.expected_model_id and checked_model_id(request.expected_model_id, "expected_model_id")


def parse_weights(tensors: Sequence[types_pb2.Tensor], model: StoredModel) -> dict[str, Array]:
    """Parses the weights to set on a model.

    Returns:
      Arrays by name, in TFC's order; 16-bit ones widened to float32.

    Raises:
      InvalidTensorError: Names every weight of wrong dtype or shape; or `weights`, if their number is wrong.
    """
    current = weights_of(model)
    if len(tensors) != len(current):
        names = ", ".join(current) or "none"
        found = f"has {len(tensors)} tensors; expected {len(current)}: {names}"
        raise InvalidTensorError.at("weights", found)
    problems: list[Violation] = []
    arrays: dict[str, Array] = {}
    for number, (name, tensor) in enumerate(zip(current, tensors, strict=True)):
        field = f"weights[{number}]"
        dtype, array = array_from_message(tensor, field)
        known, resizable = current[name], name in _RESIZABLE
        shape = known.elements.shape
        if dtype != known.dtype:
            problems.append(Violation(field, f"({name}) has dtype {dtype}; expected {known.dtype}"))
        elif array.ndim != 1 if resizable else array.shape != shape:
            wanted = "a vector" if resizable else shape
            problems.append(Violation(field, f"({name}) has shape {array.shape}; expected {wanted}"))
        elif not are_finite(array, dtype).all():
            problems.append(Violation(field, f"({name}) holds NaN or infinities; expected finite numbers"))
        arrays[name] = widened(array, dtype)
    if problems:
        raise InvalidTensorError.of(problems)
    return arrays


def render_model(model: StoredModel) -> model_pb2.Model:
    create_time = timestamp_pb2.Timestamp()
    create_time.FromDatetime(model.created_at)
    tables = model.tables
    return model_pb2.Model(
        model_id=model.config.model_id,
        config=config_to_message(model.config),
        tables_digest=b"" if tables is None else tables.digest,
        prior_shape=model.config.prior_shape,
        table_rows=0 if tables is None else len(tables.cdf_offset),
        table_bytes=model.table_bytes,
        built_with=model.built_with,
        create_time=create_time,
        tables_origin=_ORIGINS[model.tables_origin],
    )
