"""Builds the coding tables of a configuration.

Invariant: the tables are those that TFC builds in a plain process, as long as its search for the tails ends
(`tail_search` says when).
"""

from __future__ import annotations

import logging
import platform
import re
from functools import partial
from importlib import metadata

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import InvalidConfigError, LimitExceededError
from entropyd.contract.tables import RawTables
from entropyd_server.modeling.build_frames import BuiltTables
from entropyd_server.modeling.worker.kinds import kind_of
from entropyd_server.modeling.worker.quantization import quick_tables
from entropyd_server.modeling.worker.table_shape import BuildLimits, check_extents, check_rows, in_order
from entropyd_server.modeling.worker.tails import locate_tails

log = logging.getLogger(__name__)

# tensorflow_compression/cc/kernels/pmf_to_cdf_kernels.cc
_BAD_DENSITY = re.compile(r"non-finite or negative element: (\S+?)\.\s")


def versions() -> dict[str, str]:
    """Versions that tables depend on, by name."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tensorflow": tf.__version__,
        "tensorflow_compression": metadata.version("tensorflow-compression"),
        "tensorflow_probability": tfp.__version__,
    }


def use_gpus() -> None:
    """Lets TensorFlow take memory of the visible GPUs as it needs it; warns if it finds no GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        log.warning("TensorFlow finds no GPU (are the CUDA libraries installed?); computing on the CPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # noqa: FBT003 - TensorFlow's signature


def build_tables(config: ModelConfig, limits: BuildLimits) -> BuiltTables:
    """Builds the coding tables of a model from its prior.

    Ignores `compression` and tables of the configuration. Deterministic on one machine.

    Raises:
      InvalidConfigError: If TFC cannot build them; names the field and what to change.
      LimitExceededError: If they are larger, or need more memory, than allowed.
    """
    check_rows(config, limits)
    kind = kind_of(config)
    prior, dtype = kind.prior(config), kind.dtype(config)
    try:
        offsets = kind.row_offsets(config, prior, dtype)
        sampled = np.asarray(0 if offsets is None else offsets, prior.dtype.as_numpy_dtype)
        lower_tail, upper_tail = locate_tails(prior, config.tail_mass, partial(in_order, sampled))
        check_extents(config, sampled, lower_tail, upper_tail, limits)
        with quick_tables():
            model = kind.entropy_model(config, prior, dtype, offsets, True)  # noqa: FBT003 - compression
        tables = RawTables(model.cdf.numpy(), model.cdf_offset.numpy())
        if kind.stores_offsets and offsets is not None:
            rows = np.broadcast_to(offsets, config.prior_shape).reshape(-1)
            tables = tables._replace(quantization_offset=rows)
        return BuiltTables(tables, versions())
    except tf.errors.InvalidArgumentError as error:
        match = _BAD_DENSITY.search(str(error))
        if match is None:
            raise
        raise _bad_density(config, match[1]) from error
    except tf.errors.UnimplementedError as error:
        found = f"has a batch shape {config.prior_shape} that TensorFlow cannot broadcast"
        raise InvalidConfigError.at("prior", f"{found}; expected fewer axes") from error
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        limit = limits.max_build_memory_bytes
        raise LimitExceededError(
            f"building the tables ran out of memory below the server's max_build_memory_bytes of {limit}",
            metadata={"limit": "max_build_memory_bytes", "value": str(limit)},
        ) from error


def _bad_density(config: ModelConfig, density: str) -> InvalidConfigError:
    remedy = ", or float64 parameters" if config.needed_prior.dtype == "float32" else ""
    message = (
        f"has the density {density} at an integer, computed in {config.needed_prior.dtype}; "
        f"expected finite densities of at least 0: use a less extreme scale{remedy}"
    )
    return InvalidConfigError.at("prior", message)
