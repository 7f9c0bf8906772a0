"""Responses: from a request of a conversation to one that is classified, priced and ranked, within what policy allows.

The image tool is priced and routed as any job of its job type; the text model is priced on top. Whatever would cost
what no price here tells is refused, and bounds are put into the request, so that the worst case is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gateway.domain import pricing
from gateway.domain.accounts import refused, shared
from gateway.domain.errors import BudgetExceeded, Forbidden, InvalidRequest, NotFound, UnsupportedByEveryRoute
from gateway.domain.input_urls import refuse_url_inside
from gateway.domain.job import AUTO, JOB_PREFIX, Job, Operation
from gateway.domain.ladder import staying
from gateway.domain.money import format_usd
from gateway.domain.naming import model_named
from gateway.domain.policy import JobType, Policy
from gateway.domain.price import Price
from gateway.domain.responses import ResponsesRules, TextModel, TextTerms, image_tools, most_read
from gateway.domain.route import Quote
from gateway.ports.responses import Remembered
from gateway.responses.body import Bounds, ResponsesBody
from gateway.responses.conversation_input import Given, given_by
from gateway.routing.decision import Asked, decide, job_type_of
from gateway.steps.classify import MAX_PARTIAL_IMAGES, MAX_PROMPT_CHARS, Fields
from gateway.steps.rank import Ranked

MOST_REFERENCES = 16
"""Input images that one call of the tool takes at most (the vendor's API reference for edits)."""
_MOST_WRITTEN = 10**9
_OF_TOOL = frozenset({"size", "quality", "background", "output_format", "input_fidelity", "partial_images"})
"""Fields of a job that are the tool's in a conversation."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request of a conversation comes to: its job, what it is for, how, and its body as it will be sent."""

    job: Job
    job_type: JobType
    ranked: Ranked
    body: ResponsesBody


@dataclass(frozen=True, slots=True)
class _Terms:
    """What the worst case of one request rests on besides the image itself."""

    text: TextTerms
    images: int
    inputs: int
    """Input images that a call of the tool may take: those that came, and those that were made before it."""
    mask: bool
    stream: bool


def converse(asked: Asked, body: ResponsesBody, previous: Remembered | None) -> Conversation:
    """Return what is to be tried, in order; raises the error to show. `asked.job` is that of `job_of`.

    `previous` is the response that it goes on from.
    """
    given = given_by(body.fields)
    for place, url in given.urls:
        refuse_url_inside(place, url, asked.policy.egress)
    job = asked.job
    job_type, rules = _serving(asked, body)
    terms = _terms(asked, body, rules, given, goes_on=previous is not None)
    without_limit = replace(asked, wishes=replace(asked.wishes, max_cost=None))  # the whole is held to it
    try:
        ranked = decide(without_limit, job_type)
    except (NotFound, Forbidden) as error:
        if error.param == "model":  # the tool's: the one that leads was judged before
            error.param = f"{body.tool_place}.model"
        raise
    accounts = rules.providers if previous is None else (previous.provider,)
    if given.lying_there:
        others = shared(asked.policy, asked.project)
        accounts = tuple(name for name in accounts if name not in others)
        if not accounts:
            place, instead = next(iter(given.lying_there.items()))
            raise refused(place, instead, "something")
    there = staying(ranked.quotes, lambda quote: quote.route.provider.name in accounts)
    quotes = [_whole(quote, terms, asked) for quote in there]
    if not quotes:
        message = f"No route of job type {job_type.name!r} that can do this is at the account of this conversation."
        raise UnsupportedByEveryRoute(message, param="previous_response_id" if previous else "tools")
    bounds = Bounds(terms.text.model, terms.images, terms.text.most_out)
    ranked = replace(ranked, quotes=_affordable(quotes, asked))
    told = replace(job, operation=Operation.RESPOND, n=terms.images, stream=terms.stream)
    return Conversation(told, job_type, ranked, body.bounded(bounds))


@contextmanager
def of_tool(body: ResponsesBody) -> Iterator[None]:
    """Have an error about a field of the image tool name it where the client wrote it."""
    try:
        yield
    except InvalidRequest as error:
        if error.param in _OF_TOOL:
            place = f"{body.tool_place}.{error.param}"
            if error.message.startswith(f"{error.param} "):
                error.message = place + error.message.removeprefix(error.param)
            error.param = place
        raise


def job_of(body: ResponsesBody) -> Job:
    """Return what the image tool is to make, for one image; InvalidRequest for what it cannot."""
    top, tools = Fields(body.fields, "json"), image_tools(body.fields.get("tools"))
    if len(tools) > 1:
        raise InvalidRequest("Name the image tool once.", param="tools")
    if body.fields.get("input") is None and body.fields.get("previous_response_id") is None:
        raise InvalidRequest("You must provide an input.", param="input", code="missing_required_parameter")
    tool = Fields(tools[0] if tools else {}, "json")
    stream = top.boolean("stream")
    model = top.text("model") or ""
    return Job(
        operation=Operation.GENERATE,
        client_model=model if model.startswith(JOB_PREFIX) else tool.text("model"),
        prompt_chars=1,
        prompt_bytes=0,
        size=tool.word("size") or AUTO,
        quality=tool.word("quality") or AUTO,
        background=tool.word("background") or AUTO,
        output_format=tool.word("output_format"),
        input_fidelity=tool.word("input_fidelity"),
        partial_images=tool.integer("partial_images", 0, MAX_PARTIAL_IMAGES, default=0) if stream else 0,
        user=top.text("safety_identifier") or top.text("user"),
    )


def _serving(asked: Asked, body: ResponsesBody) -> tuple[JobType, ResponsesRules]:
    """Return the job type, which is one that serves conversations unless another was named."""
    asked = replace(asked, job=replace(asked.job, stream=Fields(body.fields, "json").boolean("stream")))
    project, policy = asked.project, asked.policy
    able = tuple(name for name in project.job_types if policy.job_types[name].responses is not None)
    _check_leads(Fields(body.fields, "json").text("model"), policy, talks=bool(able))
    if not able:
        message = f"Project {project.name!r} has no job type that serves conversations; ask your platform team."
        raise Forbidden(message, code="job_type_not_allowed")
    default = project.default_job_type if project.default_job_type in able else None
    named = asked.wishes.job_type or asked.caller.job_type
    if (named is None or named in able) and (asked.job.client_model or "").removeprefix(JOB_PREFIX) not in (
        set(project.job_types) - set(able)
    ):
        narrowed = replace(project, job_types=able, default_job_type=default)
        job_type = job_type_of(replace(asked, project=narrowed))
    else:
        job_type = job_type_of(asked)
    rules = job_type.responses
    if rules is None:
        message = f"Job type {job_type.name!r} serves no conversations; these do: {', '.join(able)}."
        raise Forbidden(message, param="X-Gateway-Job-Type")
    if body.tool is None and not rules.text_only:
        message = 'Policy lets conversations by only with the image tool: send tools: [{"type": "image_generation"}].'
        raise InvalidRequest(message, param="tools")
    return job_type, rules


def _terms(asked: Asked, body: ResponsesBody, rules: ResponsesRules, given: Given, *, goes_on: bool) -> _Terms:
    model = _text_model(Fields(body.fields, "json").text("model"), rules, asked.policy)
    price = model.price_on(asked.today)
    if price is None:
        raise InvalidRequest(f"Policy has no price for {model.name} that is valid today.", param="model")
    images = 0 if body.tool is None else _lower(body, "max_tool_calls", rules.max_images)
    unbounded = given.unbounded or goes_on
    most_in, most_out = most_read(
        model,
        text_bytes=given.text_bytes,
        images=given.images,
        made=images,
        most_out=_lower(body, "max_output_tokens", rules.max_output_tokens),
        unbounded=unbounded,
    )
    inputs = MOST_REFERENCES if unbounded else min(given.images + max(images - 1, 0), MOST_REFERENCES)
    mask = body.tool is not None and body.tool.get("input_image_mask") is not None
    stream = Fields(body.fields, "json").boolean("stream")
    return _Terms(TextTerms(model.name, price, most_in, most_out), images, inputs, mask, stream)


def _lower(body: ResponsesBody, name: str, most: int) -> int:
    """Return a bound: the client's, if it is lower than policy's."""
    return min(Fields(body.fields, "json").integer(name, 1, _MOST_WRITTEN, default=most), most)


def _check_leads(name: str | None, policy: Policy, *, talks: bool) -> None:
    """Refuse an image model that is to lead, before anything else is asked of the request: a common mistake."""
    if name is None or name in policy.text_models:
        return
    if model_named(name, policy) is None and all(name != route.upstream_model for route in policy.routes.values()):
        return
    where = "send it to POST /v1/images/generations"
    if talks:
        where = f'it belongs into the image tool, as tools: [{{"type": "image_generation", "model": "{name}"}}]'
    raise InvalidRequest(f"{name} makes images and cannot lead a conversation: {where}.", param="model")


def _text_model(name: str | None, rules: ResponsesRules, policy: Policy) -> TextModel:
    """Return the model that leads the conversation; an error that says where it belongs for one that makes images."""
    offered = ", ".join(model.name for model in rules.models)
    if name is None or name.startswith(JOB_PREFIX):
        return rules.models[0]
    for model in rules.models:
        if model.name == name:
            return model
    if name in policy.text_models:
        raise Forbidden(
            f"Policy does not let {name[:100]} lead conversations here: {offered}.",
            code="model_not_allowed",
            param="model",
        )
    raise InvalidRequest(f"Policy knows no price of {name[:100]!r}; model is one of {offered}.", param="model")


def _whole(quote: Quote, terms: _Terms, asked: Asked) -> Quote:
    """Return the quote of a whole response: its text, and each image at its most with all that may go into it."""
    model, can = quote.route.model, quote.route.capabilities
    written = min(MAX_PROMPT_CHARS, terms.text.most_out)  # the text model writes the tool's prompt
    each = replace(quote.job, n=1, prompt_bytes=written, references=terms.inputs, mask=terms.mask)

    def most(row: Price) -> int:
        return terms.images * pricing.worst_case(each, model, row, sizes=(), qualities=can.quality)

    text = terms.text.worst
    worst = pricing.views(most(quote.official_price) + text, most(quote.route_price) + text, asked.project.multiplier)
    tokens = quote.tokens and terms.images * pricing.most_image_tokens(each, model, sizes=(), qualities=can.quality)
    made = replace(each, operation=Operation.RESPOND, n=terms.images, stream=terms.stream, prompt_bytes=0)
    expected = min(quote.expected * terms.images + text, worst.route)
    return replace(
        quote, job=made, worst=worst, expected=expected, tokens=tokens, calls=1, as_events=False, text=terms.text
    )


def _affordable(quotes: Sequence[Quote], asked: Asked) -> list[Quote]:
    """Return the quotes within the client's own maximum; the error if there are none."""
    limit = asked.wishes.max_cost
    kept = staying(quotes, lambda quote: limit is None or quote.worst.route <= limit)
    if not kept:
        least = min(quote.worst.route for quote in quotes)
        raise BudgetExceeded(
            f"The response may cost ${format_usd(least)}; X-Gateway-Max-Cost allows ${format_usd(limit or 0)}. "
            "Send a lower max_tool_calls or max_output_tokens, or ask for a lower quality.",
            code="max_cost_exceeded",
            param="X-Gateway-Max-Cost",
        )
    return kept
