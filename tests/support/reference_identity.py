"""Model ids and tables digests as docs/identity.md describes them, by the standard library alone.

A second implementation, written from that page as a client in another language would be: without entropyd or
NumPy, and slow.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import Any

DEFAULTS = {
    "compression": True,
    "laplace_tail_mass": 0.0,
    "expected_grads": False,
    "tail_mass": 0.00390625,
    "range_coder_precision": 12,
    "bottleneck_dtype": "float32",
    "num_noise_levels": 15,
    "stateless": False,
    "decode_sanity_check": True,
}
CONTINUOUS_DEFAULTS = {
    "compression": True,
    "stateless": False,
    "expected_grads": False,
    "tail_mass": 0.00390625,
    "range_coder_precision": 12,
    "bottleneck_dtype": "float32",
    "offset_heuristic": True,
    "decode_sanity_check": True,
    "laplace_tail_mass": 0.0,
}
LOCATION_SCALE_DEFAULTS = {
    "compression": True,
    "stateless": False,
    "expected_grads": False,
    "tail_mass": 0.00390625,
    "range_coder_precision": 12,
    "bottleneck_dtype": "float32",
    "laplace_tail_mass": 0.0,
}
CONTINUOUS_INDEXED_DEFAULTS = {**LOCATION_SCALE_DEFAULTS, "channel_axis": -1, "decode_sanity_check": True}
UNIVERSAL_INDEXED_DEFAULTS = {**LOCATION_SCALE_DEFAULTS, "num_noise_levels": 15, "decode_sanity_check": True}
POWER_LAW_DEFAULTS = {"alpha": 0.01, "bottleneck_dtype": "float32"}
TABULATED_DEFAULTS = {"row_by": "position", "coder": "range", "bottleneck_dtype": "float32"}
_KINDS: dict[str, dict[str, Any]] = {
    "universal_batched": DEFAULTS,
    "continuous_batched": CONTINUOUS_DEFAULTS,
    "continuous_indexed": CONTINUOUS_INDEXED_DEFAULTS,
    "location_scale_indexed": LOCATION_SCALE_DEFAULTS,
    "universal_indexed": UNIVERSAL_INDEXED_DEFAULTS,
    "power_law": POWER_LAW_DEFAULTS,
    "tabulated": TABULATED_DEFAULTS,
}
_CODES = {"float32": "f", "float64": "d", "int32": "i"}
_REALS = ("laplace_tail_mass", "tail_mass", "alpha")


def model_id(config: dict[str, Any]) -> str:
    """The config hash of a configuration in the form of tests/vectors/identity.json."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()


def canonical_json(config: dict[str, Any]) -> str:
    """The text that `model_id` hashes."""
    kind = config.get("kind", "universal_batched")
    full = {"kind": kind, **_KINDS[kind], **config}
    if "stateless" in full:
        full["stateless"] = full["stateless"] or not full["compression"]
    full.update({name: float(full[name]) for name in _REALS if name in full})
    if "prior" in config:
        full["prior"] = _prior(config["prior"])
    if kind.endswith("_indexed"):
        full["prior_dtype"] = _dtype(config["prior"])
    for name in {"cdf", "cdf_offset"} & set(config):
        full[name] = _tensor("int32", [len(config[name])], config[name])
    if "quantization_offset" in config:
        offset = config["quantization_offset"]
        full["quantization_offset"] = _tensor(offset["dtype"], offset["shape"], offset["values"])
    if kind == "tabulated":
        full.setdefault("row_shape", [len(config["tables"]["cdf_offset"])])
    if "tables" in config:
        full["tables"] = {
            name: _tensor("int32", [len(values)], values) for name, values in config["tables"].items()
        }
    return jcs(full)


def tables_layout(
    cdf: list[int], cdf_offset: list[int], quantization_offset: list[float] | None = None
) -> bytes:
    """The bytes that `tables_digest` hashes."""
    offset = quantization_offset or []
    return (
        b"entropyd tables"
        + (b"\x01" if quantization_offset is None else b"\x02")
        + struct.pack("<IQ", len(cdf_offset), len(cdf))
        + struct.pack(f"<{len(cdf)}i", *cdf)
        + struct.pack(f"<{len(cdf_offset)}i", *cdf_offset)
        + struct.pack(f"<{len(offset)}d", *offset)
    )


def tables_digest(
    cdf: list[int], cdf_offset: list[int], quantization_offset: list[float] | None = None
) -> str:
    """SHA-256 of the tables, in hexadecimal."""
    return hashlib.sha256(tables_layout(cdf, cdf_offset, quantization_offset)).hexdigest()


def jcs(value: Any) -> str:
    """RFC 8785 canonical JSON of objects, lists, ASCII strings, numbers and flags."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{jcs(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(jcs(item) for item in value) + "]"
    return _number(value) if isinstance(value, float) else json.dumps(value)


def _prior(prior: dict[str, Any]) -> dict[str, Any]:
    dtype = _dtype(prior)
    parameters = {name: _parameter(value, dtype) for name, value in prior["parameters"].items()}
    ranges = {name: prior[name] for name in ("index_ranges",) if name in prior}
    return {"family": prior["family"], "parameters": parameters, **ranges}


def _dtype(prior: dict[str, Any]) -> str:
    for value in prior["parameters"].values():
        if isinstance(value, dict) and "function" not in value:
            return _dtype(value) if "family" in value else str(value["dtype"])
    return "float32"


def _parameter(value: Any, dtype: str) -> Any:
    if isinstance(value, dict) and "family" in value:
        return _prior(value)
    if isinstance(value, dict) and "function" in value:
        arguments = {name: _argument(argument) for name, argument in value["arguments"].items()}
        return {"function": value["function"], "arguments": arguments, "axis": value.get("axis", 0)}
    if isinstance(value, dict):
        return _tensor(value["dtype"], value["shape"], value["values"])
    return value if isinstance(value, list) else _tensor(dtype, [], [value])


def _argument(value: Any) -> dict[str, Any]:
    """An argument of a function of the index: a number, a list or a list of lists."""
    shape: list[int] = []
    values = [value]
    while isinstance(values[0], list):
        shape.append(len(values[0]))
        values = [element for row in values for element in row]
    return _tensor("float64", shape, values)


def _tensor(dtype: str, shape: list[int], values: list[Any]) -> dict[str, Any]:
    data = struct.pack(f"<{len(values)}{_CODES[dtype]}", *values)
    return {"dtype": dtype, "shape": shape, "data": base64.b64encode(data).decode()}


def _number(value: float) -> str:
    """ECMAScript's Number::toString for a finite number, from the shortest digits that round-trip."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value!r}".lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        text = digits.ljust(point, "0")
        text = text if len(digits) <= point else f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{tail}e{point - 1:+d}"
    return f"-{text}" if value < 0 else text
