"""The service's addresses: predictions, models, health, and their description."""

from __future__ import annotations

import asyncio
import hmac
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from anatozoo.serve.options import OptionError, spacing_of
from anatozoo.service.bodies import read_upload
from anatozoo.service.desk import Desk, Refusal
from anatozoo.service.models import JSON, MASK, OVERLAY, Answer
from anatozoo.service.page import POLICY, page
from anatozoo.service.settings import Settings
from anatozoo.version import __version__

_ABOUT = """\
Segmentations of medical images by the models of anatozoo. Research software: not a medical device, and
not to be used to diagnose or treat anybody. Nothing of a request is kept."""
_ACCEPTED = {"application/json": JSON, "image/png": OVERLAY, "application/dicom": "dicomseg", "*/*": JSON}
"""Format of an answer by what the client accepts."""
_FILE = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "One image, or the DICOM files of one series; see the description.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": _FILE}},
                }
            },
            **{kind: {"schema": _FILE} for kind in ("application/dicom", "image/png", "multipart/related")},
        },
    }
}
_STATUSES = {
    400: "The form is damaged.",
    401: "The token is missing or wrong.",
    404: "There is no such model.",
    408: "The request took too long to arrive.",
    413: "The request is too large.",
    415: "The content type is none of a file's.",
    422: "The file cannot be read or is not for this model, or an option is wrong.",
    429: "Too many requests are in hand; `Retry-After` says when to come back.",
    500: "The model failed on this file.",
    503: "The service is shutting down.",
    504: "The prediction took too long.",
}


def make_app(desk: Desk, settings: Settings, about: list[dict[str, Any]]) -> FastAPI:
    """The application, without the limits that belong to connections; see `anatozoo.service.edge`.

    Args:
        desk: where requests wait.
        settings: limits and token.
        about: what ``/models`` says of each model beside its description: licence, intended use.
    """
    app = FastAPI(title="anatozoo", version=__version__, description=_ABOUT, openapi_url=None)
    models = {model["name"]: model | more for model, more in zip(desk.computer.models, about, strict=True)}
    known = [Depends(_guard(settings.token))]

    @app.post(
        "/predict/{model}",
        dependencies=known,
        openapi_extra=_BODY,
        response_class=Response,
        responses={
            200: {
                "description": "The result, in the format that was asked for.",
                "content": {"application/json": {}, "image/png": {}, "application/octet-stream": {}},
            },
            **{status: {"description": text} for status, text in _STATUSES.items()},
        },
    )
    async def predict(
        model: str,
        request: Request,
        format: Annotated[
            str | None,
            Query(
                description=f"{JSON} (default), {OVERLAY} (PNG), {MASK} (PNG; of a volume NIfTI), or another "
                "format of the model, see /models. Without it the header Accept decides."
            ),
        ] = None,
        spacing_mm: Annotated[
            str | None, Query(description="Millimetres per pixel: one number, or x,y[,z].")
        ] = None,
        invert: Annotated[bool | None, Query(description="Radiographs: is air stored bright?")] = None,
        allow_any_modality: Annotated[
            bool, Query(description="Radiographs: take DICOM files that are not declared as chest X-rays.")
        ] = False,
    ) -> Response:
        """Segment one image or volume.

        Send a form with one part `file`, or several of one DICOM series, or the bytes of one file. Errors are
        JSON: `{"error": sentence}`.
        """
        if model not in models:
            raise Refusal(404, f"no model {model[:80]!r} is served here; use {', '.join(models)}.")
        form = _format(format, request, models[model])
        options = {
            "spacing_mm": _spacing(spacing_mm),
            "invert": invert,
            "allow_any_modality": allow_any_modality,
        }
        with desk.place():
            upload = await read_upload(request, settings.max_bytes, settings.timeout_s)
            if len(upload.ends) > 1 and models[model]["axes"] != 3:
                raise Refusal(
                    422, f"{model} takes one image at a time, not {len(upload.ends)} files; send one by one."
                )
            message = {"model": model, "ends": upload.ends, "form": form, "options": options}
            return _response(await _unless_gone(request, desk.ask(message, upload.content)))

    @app.get("/models", dependencies=known)
    async def list_models() -> list[dict[str, Any]]:
        """What is served: names, versions, organs, formats of answers, licence and intended use."""
        return list(models.values())

    @app.get("/health", responses={503: {"description": "It is shutting down, or loads its models again."}})
    async def health() -> JSONResponse:
        """Whether requests are taken, how many are in hand, and how many were answered; needs no token."""
        status = "stopping" if desk.stopping else "ready" if desk.computer.ready else "loading"
        found = {
            "status": status,
            "version": __version__,
            "in_hand": desk.in_hand,
            "queue": desk.places,
            "counts": {name: desk.counts[name] for name in ("answered", "refused", "failed")},
        }
        return JSONResponse(found, 200 if status == "ready" else 503)

    @app.get("/openapi.json", dependencies=known, include_in_schema=False)
    async def description() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/", dependencies=known, include_in_schema=False)
    @app.get("/docs", dependencies=known, include_in_schema=False)
    async def docs() -> HTMLResponse:
        text = page(app.openapi(), list(models.values()), with_form=settings.token is None)
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"error": error.sentence}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"{error.detail}; see /docs."}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the service failed on this request; its log says where."}, 500)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        words = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        return JSONResponse({"error": f"{words}; see /docs."}, 422)

    return app


def _guard(token: str | None) -> Any:
    """A check of the token, made before anything else of a request is looked at."""
    wanted = None if token is None else f"Bearer {token}".encode()

    async def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if wanted is not None and not hmac.compare_digest(given, wanted):
            raise Refusal(
                401,
                "the token is missing or wrong; send it as the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def _format(given: str | None, request: Request, model: dict[str, Any]) -> str:
    """The format of the answer, by the address or by what the client accepts.

    Raises:
        Refusal: the model has no such format.
    """
    form = given
    if form is None:
        accepted = [
            each.partition(";")[0].strip() for each in request.headers.get("accept", "*/*").split(",")
        ]
        form = next((_ACCEPTED[each] for each in accepted if each in _ACCEPTED), JSON)
    if form not in model["formats"]:
        raise Refusal(
            422, f"{model['name']} gives no {form[:80]!r} here; use format={', '.join(model['formats'])}."
        )
    return form


def _spacing(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else spacing_of(text)
    except OptionError as error:
        raise Refusal(422, str(error)) from error


def _response(answer: Answer) -> Response:
    headers = {}
    if answer.status == 200 and answer.media_type != "application/json":
        headers["Content-Disposition"] = f'inline; filename="{answer.name}"'
    return Response(answer.body, answer.status, headers, answer.media_type)


async def _unless_gone(request: Request, asked: Any) -> Answer:
    """The answer, unless the client hangs up; what waits then is never computed.

    Raises:
        Refusal: the client hung up; nobody reads this.
    """
    answer = asyncio.ensure_future(asked)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Refusal(499, "the client hung up.")
        found: Answer = answer.result()
        return found
    finally:
        gone.cancel()
        answer.cancel()
