"""InfoService: version, roles, devices and limits of the server; see info.proto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.wire import FORMAT_VERSION
from entropyd.v1 import info_pb2, info_pb2_grpc
from entropyd_server.limits import Limits
from entropyd_server.transport.call import Call


class InfoService(info_pb2_grpc.InfoServiceServicer):
    def __init__(self, version: str, roles: Sequence[str], devices: Sequence[str], limits: Limits) -> None:
        self._info = info_pb2.GetServerInfoResponse(
            version=version,
            roles=roles,
            devices=devices,
            limits=info_pb2.Limits(**asdict(limits)),
            format_versions=[FORMAT_VERSION],
            bottleneck_dtypes=BOTTLENECK_DTYPES,
            symbols=True,
        )

    async def GetServerInfo(
        self, request: info_pb2.GetServerInfoRequest, context: Call
    ) -> info_pb2.GetServerInfoResponse:
        return self._info
