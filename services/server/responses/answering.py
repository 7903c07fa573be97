"""What ``POST /v1/responses`` does before its first token: the way of a chat request, in and out in other terms."""

from services.server.answer import Answer, PlainAnswer, StreamedAnswer
from services.server.requests import ServerRequest, ended_by_error, prepare_chat, read_body, serving
from services.server.responses.convert import chat_request_of, in_responses_terms, responses_terms
from services.server.responses.document import ResponseAnswer, ResponseDocument
from services.server.responses.frames import ResponseFrames
from services.server.responses.output import Output
from services.server.responses.schema import decode_responses


async def answer_response(request: ServerRequest) -> Answer:
    """Prepare the answer to ``POST /v1/responses``.

    Raises:
        ServerError: whatever is wrong with the request; nothing is held then.
    """
    services, model = serving(request)
    asked = decode_responses(await read_body(request, services))
    with responses_terms():
        ready = await prepare_chat(request, services, model, chat_request_of(asked), route="responses")
    with ended_by_error(ready.generation):
        document = ResponseDocument(ready.envelope, asked, ready.sampling)
    output = Output(ready.envelope.id)
    if asked.stream:
        frames = ResponseFrames(document, output, top_logprobs=ready.sampling.logprobs)
        return StreamedAnswer(ready.generation, ready.deltas, frames, rename=in_responses_terms)
    return PlainAnswer(ready.generation, ready.deltas, ResponseAnswer(document, output), rename=in_responses_terms)
