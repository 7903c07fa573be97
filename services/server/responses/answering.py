"""What ``POST /v1/responses`` does before its first token: the way of a chat request, in and out in other terms."""

from services.server.answer import Answer, PlainAnswer, StreamedAnswer
from services.server.body import read_body
from services.server.keys import Key
from services.server.requests import EndedByError, ServerRequest, prepare_chat, serving
from services.server.responses.convert import chat_request_of, in_responses_terms, responses_terms
from services.server.responses.document import ResponseAnswer, ResponseDocument
from services.server.responses.frames import ResponseFrames
from services.server.responses.items import items_of
from services.server.responses.output import Output
from services.server.responses.schema import decode_responses
from services.server.responses.stored import ShelfKeeper


async def answer_response(request: ServerRequest) -> Answer:
    """Prepare the answer to ``POST /v1/responses``.

    Raises:
        ServerError: whatever is wrong with the request; nothing is held then.
    """
    services, model = serving(request)
    asked = decode_responses(await read_body(request, services))
    key: Key = request.scope["state"]["key"]
    previous_id, shelf = asked.previous_response_id, services.stored
    before = await shelf.before(key, previous_id)
    services.lifecycle.require_serving()  # the drain did not wait for this request while it read
    with responses_terms():
        items, earlier = items_of(asked.input), items_of(before, "previous_response_id")
        ready = await prepare_chat(request, services, model, chat_request_of(asked, items, earlier), route="responses")
    output, stored = Output(ready.envelope.id), shelf.keeps(wanted=asked.store)
    with EndedByError(ready.generation):
        document = ResponseDocument(ready.envelope, asked, ready.sampling, stored=stored)
        keeper = None
        if stored:
            keeper = ShelfKeeper(
                shelf, key, ready.envelope, document, output, previous_id=previous_id, items=items, earlier=earlier
            )
    if asked.stream:
        frames = ResponseFrames(document, output, top_logprobs=ready.sampling.logprobs)
        return StreamedAnswer(ready.generation, ready.deltas, frames, rename=in_responses_terms, keeper=keeper)
    whole = ResponseAnswer(document, output)
    return PlainAnswer(ready.generation, ready.deltas, whole, rename=in_responses_terms, keeper=keeper)
