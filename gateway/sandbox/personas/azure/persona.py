"""Azure OpenAI: deployments under two paths, an `api-key` header, content filters, and images as base64 alone.

On the deployments path `api-version` is required and a `model` in the body refused, as the newer models do (litellm
issue 26316); on the v1 path the body names the deployment. Deployments of every live model are there: one of its
name, and one with `team-` before it. Errors: the `dalleErrorResponse` schema, and answers of the real service seen by
its users.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.sandbox.fault_catalog import Feature
from gateway.sandbox.json_response import PlainJSON
from gateway.sandbox.personas.openai import errors
from gateway.sandbox.personas.openai.catalog import MODELS
from gateway.sandbox.personas.openai.persona import OpenAIEndpoints
from gateway.sandbox.personas.openai.submission import Submission
from gateway.sandbox.world import Persona, World

PROVIDER = "azure"
DEPLOYMENTS = {f"{team}{name}": name for name, model in MODELS.items() if not model.retired for team in ("", "team-")}
_KINDS = ("hate", "self_harm", "sexual", "violence")


class AzureEndpoints(OpenAIEndpoints):
    """The endpoints of one resource."""

    provider = PROVIDER

    def routes(self) -> list[Route]:
        """Return both paths."""
        return [
            Route(f"/openai/{path}/images/{name}", endpoint, methods=["POST"])
            for path in ("v1", "deployments/{deployment}")
            for name, endpoint in (("generations", self.generations), ("edits", self.edits))
        ]

    async def read(self, request: Request, operation: str) -> Submission:
        """Read the body, whose model is the deployment's."""
        submission = await super().read(request, operation)
        deployment, fields = request.path_params.get("deployment"), submission.fields
        if deployment is not None and "api-version" not in request.query_params:
            raise errors.ApiError(404, "Resource not found", code="404")
        if deployment is not None and "model" in fields:
            raise errors.ApiError(400, "The model is that of the deployment; leave it out.", param="model")
        if "response_format" in fields:
            raise errors.unknown("response_format")
        name = str(deployment if deployment is not None else fields.get("model", ""))
        if name not in DEPLOYMENTS:
            raise errors.ApiError(
                404,
                "The API deployment for this resource does not exist. If you created the deployment within the last 5 "
                "minutes, please wait a moment and try again.",
                code="DeploymentNotFound",
            )
        fields["model"] = DEPLOYMENTS[name]
        return submission

    def check_key(self, request: Request) -> None:
        """Refuse a key that is not the account's, or stands in another header."""
        if not self._world.options.accepts(request.headers.get("api-key")):
            raise errors.ApiError(
                401,
                "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key "
                "for an active subscription and use a correct regional API endpoint for your resource.",
                code="401",
            )

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.ApiError)
        body, headers = error.body["error"], dict(error.headers)
        assert isinstance(body, dict)
        if body.get("code") == "moderation_blocked":
            body = _filtered(body)
        elif error.status == 429:  # noqa: PLR2004 - HTTP's own
            seconds = headers.get("retry-after", "1")
            headers.setdefault("retry-after-ms", str(round(float(seconds) * 1000)))
            body = {"code": "429", "message": f"Requests have exceeded call rate limit. Please retry after {seconds}."}
        elif error.status in (401, 404):
            body = {"code": body["code"], "message": body["message"]}
        return PlainJSON({"error": body}, error.status, {**self._headers(request), **headers})


def _filtered(body: dict[str, object]) -> dict[str, object]:
    """Say in the content filter's words what the safety system refused."""
    details = body["moderation_details"]
    assert isinstance(details, dict)
    results: dict[str, object] = {
        kind: {
            "filtered": kind in details["categories"],
            "severity": "medium" if kind in details["categories"] else "safe",
        }
        for kind in _KINDS
    }
    inner = {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_results": {**results, "jailbreak": {"detected": False, "filtered": False}},
    }
    message = "Your request was rejected as a result of our safety system."
    return {"code": "contentFilter", "message": message, "param": None, "type": None, "inner_error": inner}


def _build(world: World) -> ASGIApp:
    return AzureEndpoints(world).app()


AZURE = Persona(PROVIDER, "/azure", _build, features=(Feature.STREAMS,))
