"""The address for probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entropyd.v1 import info_pb2, info_pb2_grpc
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from pathlib import Path


def test_the_address_for_probes_tells_health_and_nothing_else(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/health"
    with (
        LocalServer("--role", "coding", "--health-listen", address),
        grpc.insecure_channel(address) as channel,
    ):
        for service in ("", "entropyd.liveness", "entropyd.v1.CodingService"):
            request = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as failure:
            info_pb2_grpc.InfoServiceStub(channel).GetServerInfo(info_pb2.GetServerInfoRequest(), timeout=10)
        assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED
