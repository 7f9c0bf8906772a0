"""OpenAI's Files and Batches endpoints, as far as batches of images need them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.sandbox.arrivals import Arrival
from gateway.sandbox.bill import BillLine, nano_usd
from gateway.sandbox.delivery import Delivery
from gateway.sandbox.faults import Fault, Subject
from gateway.sandbox.personas.openai import errors
from gateway.sandbox.personas.openai.answers import json_answer
from gateway.sandbox.personas.openai.batch_work import ENDPOINTS, Batch, BatchWork, Done, StoredFile, store
from gateway.sandbox.personas.openai.persona import BLOCKED_WORD, OpenAIEndpoints, tokens_of
from gateway.sandbox.personas.openai.submission import Submission, take_referenced_images
from gateway.sandbox.personas.openai.validation import EDIT, GENERATE, ImageJob, validate
from gateway.sandbox.world import World

_PIECE = 1024 * 1024
_BATCHES_A_PAGE = (20, 100)
"""How many a list has unless it is told, and at most."""
_FILES_A_PAGE = (10_000, 10_000)
"""Likewise."""


class OpenAIWithBatches(OpenAIEndpoints):
    """The endpoints of images, and those of batches of them."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._account = BatchWork(world.options.batch_seconds, self._do)
        world.forgetting.append(self._account.clear)

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        return [
            *super().routes(),
            Route("/files", self.upload, methods=["POST"]),
            Route("/files", self.list_files, methods=["GET"]),
            Route("/files/{file}", self.file, methods=["GET", "DELETE"]),
            Route("/files/{file}/content", self.content, methods=["GET"]),
            Route("/batches", self.create, methods=["POST"]),
            Route("/batches", self.list_batches, methods=["GET"]),
            Route("/batches/{batch}", self.batch, methods=["GET"]),
            Route("/batches/{batch}/cancel", self.cancel, methods=["POST"]),
        ]

    async def upload(self, request: Request) -> Response:
        """Store a file."""
        self.check_key(request)
        try:
            async with request.form() as form:
                purpose, sent = form.get("purpose"), form.get("file")
                if not isinstance(purpose, str):
                    raise errors.missing("purpose")
                if not isinstance(sent, UploadFile):
                    raise errors.missing("file")
                if purpose != "batch":
                    raise errors.not_among("purpose", purpose, ("batch",))
                file = store(sent.filename or "upload.jsonl", purpose)
                while piece := await sent.read(_PIECE):
                    file.content.write(piece)
        except HTTPException as error:
            raise errors.ApiError(400, f"Could not parse multipart form: {error.detail}") from None
        return self.json(request, self._account.keep(file).as_json())

    async def list_files(self, request: Request) -> Response:
        """List files, newest first."""
        self.check_key(request)
        return self.json(request, _page(request, list(self._account.files.values()), *_FILES_A_PAGE))

    async def file(self, request: Request) -> Response:
        """Show a file, or delete it."""
        file = self._file(request)
        if request.method == "DELETE":
            del self._account.files[file.id]
            return self.json(request, {"id": file.id, "object": "file", "deleted": True})
        return self.json(request, file.as_json())

    async def content(self, request: Request) -> Response:
        """Send a file's bytes."""
        file = self._file(request)

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, file.bytes, _PIECE):
                file.content.seek(at)
                yield file.content.read(min(_PIECE, file.bytes - at))

        return StreamingResponse(pieces(), media_type="application/octet-stream")

    async def create(self, request: Request) -> Response:
        """Take a batch on."""
        self.check_key(request)
        given = await _object(request)
        file = self._account.files.get(str(given.get("input_file_id")))
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(given.get(name), str):
                raise errors.missing(name)
        if given["endpoint"] not in ENDPOINTS:
            raise errors.not_among("endpoint", given["endpoint"], ENDPOINTS)
        if given["completion_window"] != "24h":
            raise errors.not_among("completion_window", given["completion_window"], ("24h",))
        if file is None or file.purpose != "batch":
            raise errors.ApiError(400, f"No such File object: {given['input_file_id']}", param="input_file_id")
        metadata = given.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise errors.wrong_type("metadata", "an object", "something else")
        fault = self._world.faults.take_for_batch(self.provider)
        _arrival(request).fault = fault.name if fault else None
        if fault is not None and fault.name == "batch_not_taken":
            raise errors.ApiError(fault.parameters["status"], "The batch could not be created.", kind="server_error")
        batch = self._account.begin(file, given["endpoint"], given["completion_window"], metadata, fault)
        if fault is not None and fault.name == "batch_lost":
            return Delivery([b""], media_type="application/json", fault=fault)
        return self.json(request, batch.as_json())

    async def list_batches(self, request: Request) -> Response:
        """List batches, newest first."""
        self.check_key(request)
        return self.json(request, _page(request, list(self._account.batches.values()), *_BATCHES_A_PAGE))

    async def batch(self, request: Request) -> Response:
        """Show a batch."""
        return self.json(request, self._batch(request).as_json())

    async def cancel(self, request: Request) -> Response:
        """Give a batch up: what is done stays done."""
        batch = self._batch(request)
        if batch.status not in ("validating", "in_progress", "cancelling"):
            message = f"Cannot cancel a batch with status '{batch.status}'."
            raise errors.ApiError(409, message, code="batch_not_cancellable")
        if not batch.cancelling:
            batch.given_up.set()
            batch.become("cancelling")
        return self.json(request, batch.as_json())

    def _file(self, request: Request) -> StoredFile:
        self.check_key(request)
        name = request.path_params["file"]
        if name not in self._account.files:
            raise errors.ApiError(404, f"No such File object: {name}", param="id")
        return self._account.files[name]

    def _batch(self, request: Request) -> Batch:
        self.check_key(request)
        name = request.path_params["batch"]
        if name not in self._account.batches:
            raise errors.ApiError(404, f"No batch found with id '{name}'.")
        return self._account.batches[name]

    async def _do(self, endpoint: str, line: Mapping[str, Any], fault: Fault | None) -> Done:
        """Do one line as the endpoint would have done it, at half its price."""
        named, operation = f"req_{uuid.uuid4().hex}", EDIT if endpoint.endswith("edits") else GENERATE
        try:
            submission = Submission(dict(line["body"]))
            if operation == EDIT:
                await asyncio.to_thread(take_referenced_images, submission)
            job = validate(submission, operation)
            if job.stream:
                raise errors.ApiError(400, "Streaming is not supported in batches.", param="stream")
            if BLOCKED_WORD in job.prompt:
                raise errors.moderation_blocked(named, "input", ["violence"])
            if fault is not None and fault.name == "batch_lines_fail" and fault.strikes(line["custom_id"]):
                raise errors.ApiError(
                    fault.parameters["status"], "The server had an error.", kind="server_error", code="server_error"
                )
        except errors.ApiError as error:
            return Done({"status_code": error.status, "request_id": named, "body": error.body})
        tokens, _ = tokens_of(job)
        body = await json_answer(job, tokens, self._world.gallery, self._spoiled(job, operation, line["body"]))
        self._world.bill.charge(
            BillLine(
                provider=self.provider,
                request=named,
                at=time.time(),
                model=job.model.id,
                operation=job.operation,
                n=job.n,
                images=job.n,
                size=job.size,
                quality=job.quality,
                usage=tokens.as_usage(details=True),
                nano_usd=nano_usd(-(-tokens.pico_usd(job.model) // 2)),
            )
        )
        return Done({"status_code": 200, "request_id": named, "body": "(body)"}, None, body)

    def _spoiled(self, job: ImageJob, operation: str, fields: Mapping[str, object]) -> Fault | None:
        """Return the fault that spoils this answer, of those that spoil what an answer says."""
        return self._world.faults.take_content(
            self.provider, Subject(operation, job.model.id, job.prompt, stream=False, fields=fields)
        )


def _page(request: Request, every: Sequence[StoredFile | Batch], usual: int, most: int) -> Mapping[str, Any]:
    """Return the part of a list that is asked for by `after` and `limit`, newest first; clients ask on by its end."""
    newest, after = every[::-1], request.query_params.get("after")
    limit = request.query_params.get("limit", "")
    ids = [each.id for each in newest]
    start = ids.index(after) + 1 if after in ids else 0
    page = newest[start : start + (min(int(limit), most) if limit.isdecimal() else usual)]
    ends = {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
    told = {"object": "list", "data": [each.as_json() for each in page], **ends}
    return {**told, "has_more": start + len(page) < len(every)}


async def _object(request: Request) -> Mapping[str, Any]:
    try:
        document = json.loads(await request.body())
    except ValueError:
        raise errors.bad_json() from None
    if not isinstance(document, dict):
        raise errors.bad_json()
    return document


def _arrival(request: Request) -> Arrival:
    arrival: Arrival = request.state.arrival
    return arrival
