"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from entropyd import _messages
from entropyd._id_search import IdSearch
from entropyd._info import ModelInfo, ServerInfo
from entropyd._messages import FitProgress
from entropyd._naming import naming
from entropyd._settings import ClientBase
from entropyd.aio._model import Model
from entropyd.aio._session import Session
from entropyd.contract.config import ModelConfig
from entropyd.contract.names import checked_name

if TYPE_CHECKING:
    from typing_extensions import Self


class Client(ClientBase):
    """A connection to an entropyd server, for one event loop; close it, or use it in `async with`.

    The event loop is that of the first call. The arguments and errors of `entropyd.Client`.
    """

    _new_session: ClassVar[Any] = Session
    _session: Session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight end with CancelledError."""
        await self._session.close()

    async def server_info(self) -> ServerInfo:
        """See entropyd.Client.server_info."""
        return await self._session.server_info()

    async def create_model(
        self, config: ModelConfig, *, name: str | None = None, timeout_s: float | None = 600.0
    ) -> Model:
        """See entropyd.Client.create_model."""
        make = partial(self._session.call, _messages.create_model(config), timeout_s)
        return await self._made(make, name)

    async def model(self, model_id: str) -> Model:
        """See entropyd.Client.model."""
        whole_id = await self._whole_id(model_id)
        return Model(self._session, await self._session.call(_messages.get_model(whole_id)))

    async def models(self) -> AsyncIterator[Model]:
        """See entropyd.Client.models."""
        page_token: str | None = ""
        while page_token is not None:
            page, next_token = await self._session.call(_messages.list_models(page_token))
            for info in page:
                yield Model(self._session, info)
            page_token = next_token or None

    async def delete_model(self, model_id: str) -> None:
        """See entropyd.Client.delete_model."""
        await self._session.call(_messages.delete_model(await self._whole_id(model_id)))

    async def name_model(self, name: str, model_id: str, *, expected: str | None = None) -> str:
        """See entropyd.Client.name_model."""
        checked_name(name)
        model_id = await self._whole_id(model_id)
        with naming():
            return await self._session.call(_messages.set_model_name(name, model_id, expected))

    async def unname_model(self, name: str, *, expected: str | None = None) -> str:
        """See entropyd.Client.unname_model."""
        with naming():
            return await self._session.call(_messages.delete_model_name(name, expected))

    async def model_names(self) -> dict[str, str]:
        """See entropyd.Client.model_names."""
        names: dict[str, str] = {}
        page_token: str | None = ""
        while page_token is not None:
            with naming():
                page, next_token = await self._session.call(_messages.list_model_names(page_token))
            names.update(page)
            page_token = next_token or None
        return names

    async def fit_model(
        self,
        config: ModelConfig,
        samples: Any,
        *,
        max_steps: int = 0,
        validation_share: float = 0.1,
        progress: Callable[[FitProgress], None] | None = None,
        name: str | None = None,
        timeout_s: float | None = 3600.0,
    ) -> Model:
        """See entropyd.Client.fit_model."""
        requests = partial(_messages.fit_requests, config, samples, max_steps, validation_share)
        return await self._made(partial(self._session.fit, requests, timeout_s, progress), name)

    async def import_model(
        self, exported: bytes, *, name: str | None = None, timeout_s: float | None = None
    ) -> Model:
        """See entropyd.Client.import_model."""
        make = partial(self._session.call, _messages.import_model(exported), timeout_s)
        return await self._made(make, name)

    async def _made(self, make: Callable[[], Awaitable[ModelInfo]], name: str | None) -> Model:
        if name is not None:
            checked_name(name)
        info = await make()
        if name is not None:
            with naming(info.id):
                await self._session.call(_messages.set_model_name(name, info.id, None))
        return Model(self._session, info)

    async def _whole_id(self, model_id: str) -> str:
        search = IdSearch(model_id)
        while (call := search.call()) is not None:
            with naming():
                search.add(await self._session.call(call))
        return search.model_id()
