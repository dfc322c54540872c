"""The blocking client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from entropyd import _messages
from entropyd._id_search import IdSearch
from entropyd._info import ModelInfo, ServerInfo
from entropyd._messages import FitProgress
from entropyd._model import Model
from entropyd._naming import naming
from entropyd._session import Session
from entropyd._settings import ClientBase
from entropyd.contract.config import ModelConfig
from entropyd.contract.names import checked_name

if TYPE_CHECKING:
    from typing_extensions import Self


class Client(ClientBase):
    """A connection to an entropyd server. Thread-safe; close it, or use it in a `with` statement.

    It connects when it is first used. It can be pickled and copied: the copy connects anew.

    Args:
      target: `HOST:PORT`, `unix:PATH`, or another gRPC target.
      credentials: Channel credentials for TLS, as `entropyd.tls_credentials` makes them; None for plain text.
      token: Bearer token to send with every call, or a function that returns it, called before every call;
        without credentials, only to a server on this machine.
      token_file: File that holds nothing but the token, in place of `token`; read before every call.
      timeout_s: Longest time for a call, in seconds, where the call names none; None for no limit.
      tracing: Whether each call is a span of the application's OpenTelemetry traces, which the server's own
        spans continue; needs `entropyd[tracing]`.
      wire: How arrays travel. `symbols` are the integers that are coded, in 1 to 4 bytes each; strings and
        restored arrays are the same to the bit. `auto` sends them to a server that says that it takes them,
        which takes one call more; `float` sends values in bottleneck_dtype.

    Every call raises the errors of `entropyd.EntropydError`'s tree, UnavailableError where no server answers,
    and DeadlineExceededError past its time.

    Pickling raises TypeError for a token given as text, a function that cannot be pickled, and credentials
    that gRPC made.

    Raises:
      OSError: If a file cannot be read.
      ValueError: If the target names no server, `timeout_s` is no time, or the token cannot be sent or would
        cross a network in plain text.
    """

    _new_session: ClassVar[Any] = Session
    _session: Session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight end with CancelledError."""
        self._session.close()

    def server_info(self) -> ServerInfo:
        """Version, roles, devices and limits of the server; asked for once."""
        return self._session.server_info()

    def create_model(
        self, config: ModelConfig, *, name: str | None = None, timeout_s: float | None = 600.0
    ) -> Model:
        """Makes the model of a configuration, or finds it.

        Building tables takes seconds, or minutes for thousands of channels. A build is cancelled when all its
        callers have left: after DeadlineExceededError, call again with more time.

        Args:
          config: The model.
          name: A name for it, which is moved to it if it is another model's; see `name_model`.
          timeout_s: Longest time for the call, in seconds.

        Raises:
          InvalidConfigError: If no tables can be built from it; names the field.
          LimitExceededError: If its tables exceed a limit of the server.
          RoleMissingError: If its tables are to be built, and the server cannot build any.
          OverloadedError: If too many models of this caller, or of all, are being made.
        """
        make = partial(self._session.call, _messages.create_model(config), timeout_s)
        return self._made(make, name)

    def model(self, model_id: str) -> Model:
        """The model of an id or a name.

        Args:
          model_id: The id; its first digits, at least 6, with which no other id of the server begins; or a
            name. The last two take one call more. A model that was found by its name stays the same one when
            the name moves.

        Raises:
          ModelNotFoundError: If the server has none.
          InvalidRequestError: If it is none of these, or if several ids begin with these digits; names them.
          UnimplementedError: If the server is too old for names.
          DataLossError: If the stored model is damaged.
        """
        return Model(self._session, self._session.call(_messages.get_model(self._whole_id(model_id))))

    def models(self) -> Iterator[Model]:
        """All models in order of their ids, read page by page; damaged ones are left out."""
        page_token: str | None = ""
        while page_token is not None:
            page, next_token = self._session.call(_messages.list_models(page_token))
            for info in page:
                yield Model(self._session, info)
            page_token = next_token or None

    def delete_model(self, model_id: str) -> None:
        """Removes a model. This server can then no longer decode what was compressed with it.

        Args:
          model_id: As for `model`.

        Raises:
          ModelNotFoundError: If the server has none.
          InvalidRequestError: If several ids begin with these digits; names them.
        """
        self._session.call(_messages.delete_model(self._whole_id(model_id)))

    def name_model(self, name: str, model_id: str, *, expected: str | None = None) -> str:
        """Points a name at a model. `model` then finds it by the name; ids, strings and archives stay.

        Args:
          name: 1 to 64 of a-z, 0-9, ".", "_" and "-", the first a letter or a digit, and at least one that is
            no hexadecimal digit.
          model_id: As for `model`.
          expected: The whole id that the name has to point at now, "" if it has to be free; None to move it
            from whatever it points at.

        Returns:
          The id that it pointed at before; "" if it was free.

        Raises:
          ModelStateError: NAME_MOVED, if it does not point at what is expected.
          ModelNotFoundError: If the server has no such model.
          InvalidRequestError: If the name is none.
          UnimplementedError: If the server is too old for names.
        """
        checked_name(name)
        model_id = self._whole_id(model_id)
        with naming():
            return self._session.call(_messages.set_model_name(name, model_id, expected))

    def unname_model(self, name: str, *, expected: str | None = None) -> str:
        """Removes a name; the model stays.

        Args:
          name: The name.
          expected: The whole id that it has to point at now; None for whatever it points at.

        Returns:
          The id that it pointed at.

        Raises:
          ModelNotFoundError: If no model has the name.
          ModelStateError, InvalidRequestError, UnimplementedError: As `name_model`.
        """
        with naming():
            return self._session.call(_messages.delete_model_name(name, expected))

    def model_names(self) -> dict[str, str]:
        """Ids by name, in alphabetical order; also of models that were deleted since.

        Raises:
          UnimplementedError: If the server is too old for names.
        """
        names: dict[str, str] = {}
        page_token: str | None = ""
        while page_token is not None:
            with naming():
                page, next_token = self._session.call(_messages.list_model_names(page_token))
            names.update(page)
            page_token = next_token or None
        return names

    def fit_model(
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
        """Fits a prior to samples of a bottleneck, and makes the model.

        Args:
          config: The model; the parameters of its prior are starting values, see
            `entropyd.fitting.starting_prior`.
          samples: Any leading axes, then prior_shape; of bottleneck_dtype, or nested lists of numbers.
          max_steps: Most optimiser steps; 0 for the server's default. A fit that converges ends sooner.
          validation_share: Share of the samples that is held out to judge convergence.
          progress: Called a few times a second; an exception that it raises ends the fit.
          name: As for `create_model`.
          timeout_s: Longest time for the fit, in seconds.

        Raises:
          InvalidTensorError: For samples of wrong dtype or shape, not finite, too few, or all the same.
          InvalidConfigError: If the fit diverges, or no tables can be built from its result.
          LimitExceededError: If the samples exceed a limit of the server.
          UnavailableError: WORKER_LOST, if the fit was lost with the process that ran it. The caller decides
            whether to begin anew.
        """
        requests = partial(_messages.fit_requests, config, samples, max_steps, validation_share)
        return self._made(partial(self._session.fit, requests, timeout_s, progress), name)

    def import_model(
        self, exported: bytes, *, name: str | None = None, timeout_s: float | None = None
    ) -> Model:
        """Stores a model that was exported from another server, under the same id and without building.

        Args:
          exported: What `Model.export` returned there.
          name: As for `create_model`.
          timeout_s: Longest time for the call, in seconds.

        Raises:
          InvalidRequestError: If it is no exported model, or was damaged.
          TablesMismatchError: If this server has the model with other tables.
        """
        return self._made(partial(self._session.call, _messages.import_model(exported), timeout_s), name)

    def _made(self, make: Callable[[], ModelInfo], name: str | None) -> Model:
        """Makes a model and names it."""
        if name is not None:
            checked_name(name)
        info = make()
        if name is not None:
            with naming(info.id):
                self._session.call(_messages.set_model_name(name, info.id, None))
        return Model(self._session, info)

    def _whole_id(self, model_id: str) -> str:
        search = IdSearch(model_id)
        while (call := search.call()) is not None:
            with naming():
                search.add(self._session.call(call))
        return search.model_id()
