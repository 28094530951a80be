"""Answer OTLP over HTTP, through the same intake as gRPC."""

from io import BytesIO

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from imitrace_collector import otlp
from imitrace_collector.budget import Reservation
from imitrace_collector.compression import ENCODINGS, TooLargeError
from imitrace_collector.intake import Body, Export, Intake
from imitrace_collector.refusals import SlowSenderError, UnsupportedError


async def export(intake: Intake, signal: str, request: Request) -> Response:
    """Take an OTLP export; answers once it is durable.

    Raises:
        ImitraceError: it can't be taken; ``refusals`` knows what to say.
    """
    form = media_type(request)
    if form not in otlp.MEDIA_TYPES:
        raise UnsupportedError(f"content type is {form!r}, allowed: {', '.join(otlp.MEDIA_TYPES)}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and encoding not in ENCODINGS:
        raise UnsupportedError(f"content encoding is {encoding!r}, allowed: {', '.join(ENCODINGS)}")
    with intake.reserve() as held:
        body = Body(await read_body(request, intake.config.max_request_bytes, held))
        asked = Export(signal, "http", request.state.caller, form, encoding)
        response = await intake.take(asked, body, held)
    return Response(otlp.encode(response, form), media_type=form)


def media_type(request: Request) -> str:
    """Return a request's content type, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limit: int, held: Reservation) -> bytes:
    """Return the body, reading no further than ``limit``, and nothing before its bytes are reserved.

    Raises:
        TooLargeError: it is longer than that.
        QueueFullError: there is no room for it now.
        SlowSenderError: it did not arrive whole.
    """
    announced = int(request.headers.get("content-length", 0))
    if announced > limit:
        raise too_large(limit)
    held.grow(announced)
    body = BytesIO()  # gives what it holds away as bytes, without a copy
    try:
        async for chunk in request.stream():
            size = body.tell() + len(chunk)
            if size > limit:
                raise too_large(limit)
            held.grow(max(0, size - held.size))
            body.write(chunk)
    except ClientDisconnect as error:
        raise SlowSenderError("the request did not arrive whole") from error
    return body.getvalue()


def too_large(limit: int) -> TooLargeError:
    """Return the error for a body of more than ``limit`` bytes."""
    return TooLargeError(f"request has more than {limit} bytes; send smaller batches")
