"""Rewrites tests/vectors/identity.json: run `python -m tests.vectors.write_identity`; nothing else does.

The configurations and tables in the file are written by hand. This fills in what follows from them: the
canonical text and id of each configuration, and the canonical bytes and digest of each pair of tables.
"""

from __future__ import annotations

import json
import re

from tests.support.identity_vectors import VECTORS_PATH, config_of
from tests.support.reference_identity import tables_digest, tables_layout


def main() -> None:
    vectors = json.loads(VECTORS_PATH.read_text())
    for model in vectors["models"]:
        config = config_of(model["config"])
        model["canonical_json"] = config.canonical_json.decode()
        model["model_id"] = config.model_id
    for tables in vectors["tables"]:
        given = (tables["cdf"], tables["cdf_offset"], tables.get("quantization_offset"))
        tables["layout_hex"] = tables_layout(*given).hex()
        tables["tables_digest"] = tables_digest(*given)
    text = json.dumps(vectors, indent=1)
    one_line = re.sub(r"\[[^\[\]{}\"]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    VECTORS_PATH.write_text(one_line.replace("[ ", "[").replace(" ]", "]") + "\n")


if __name__ == "__main__":
    main()
