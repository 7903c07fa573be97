"""Every route's description, by its handler's name. A route that is not here fails the tests."""

from typing import Any

from services.server.chat.schema import ChatRequest, CompletionRequest
from services.server.embeddings import EmbeddingsRequest
from services.server.errors import (
    AnswerTooSlow,
    Conflict,
    ErrorAnswer,
    FileNotFound,
    InvalidApiKey,
    JobNotFound,
    ModelForbidden,
    ModelNotFound,
    NotOwner,
    Overloaded,
    ResponseNotFound,
    RoleMissing,
    Unavailable,
)
from services.server.openapi.answers import ChatCompletion, ChatCompletionChunk, Completion, CompletionChunk
from services.server.openapi.operation import Operation, Parameter, Reply, Stream
from services.server.openapi.response_answers import InputItems, Response, ResponseEvent
from services.server.readiness import Readiness
from services.server.responses.items import ITEMS
from services.server.responses.schema import AllowedToolsChoice, FunctionChoice, FunctionTool, ResponsesRequest
from services.server.routes.files import MOST_FILES
from services.server.routes.fine_tuning import MOST_JOBS
from services.server.routes.health import Alive
from services.server.routes.metrics import CONTENT_TYPE
from services.server.routes.models import ModelCard, ModelList
from services.server.routes.responses import MOST_ITEMS
from services.server.tuning.schema import CreateJob
from services.server.tuning.uploads import EXPIRES, PURPOSE
from services.server.tuning.views import (
    CheckpointObject,
    Deleted,
    EventObject,
    FileObject,
    JobObject,
    Listing,
)

_ENDS_DONE = "`[DONE]` is the last event; an ErrorAnswer is where an error ends the stream."
_ENDS_WHOLE = "`response.completed` or `response.incomplete` is the last; `response.failed` and `error` are where an error ends the stream."

_OF_A_MODEL = (ModelForbidden, ModelNotFound, Unavailable)
_OF_AN_ANSWER = (*_OF_A_MODEL, AnswerTooSlow)
_OF_A_FILE = (FileNotFound, Unavailable)
_OF_A_JOB = (JobNotFound, Unavailable)
_OF_A_RESPONSE = (ResponseNotFound, Unavailable)

_MODEL = {"model": Parameter("The base's name, an adapter's alias, or a pinned version such as `acme-support@7`.")}
_RESPONSE = {"response_id": Parameter("A stored response's id.")}
_FILE = {"file_id": Parameter("A file's id.")}
_JOB = {"job_id": Parameter("A job's id.")}
_AFTER = Parameter("The id of the last object of the page before.")
_ORDER = Parameter("By the time of creation.", {"enum": ["asc", "desc"]})


def _limit(most: int) -> Parameter:
    return Parameter("Objects of one page.", {"minimum": 1, "maximum": most})


def _replies(description: str, schema: Any) -> tuple[Reply, ...]:
    return (Reply(description=description, schema=schema),)


def _change(description: str) -> Operation:
    """A route that changes a job's state."""
    return Operation(parameters=_JOB, replies=_replies(description, JobObject), errors=_OF_A_JOB)


_JOBS_PAGE = {"after": _AFTER, "limit": _limit(MOST_JOBS)}

OPERATIONS = {
    "chat_completions": Operation(
        body=ChatRequest,
        replies=_replies("The whole answer.", ChatCompletion),
        stream=Stream(description=_ENDS_DONE, events=(ChatCompletionChunk, ErrorAnswer), done=True),
        errors=_OF_AN_ANSWER,
    ),
    "completions": Operation(
        body=CompletionRequest,
        replies=_replies("The whole answer.", Completion),
        stream=Stream(description=_ENDS_DONE, events=(CompletionChunk, ErrorAnswer), done=True),
        errors=_OF_AN_ANSWER,
    ),
    "create_response": Operation(
        body=ResponsesRequest,
        parts=(*ITEMS.values(), FunctionTool, FunctionChoice, AllowedToolsChoice),
        replies=_replies("The whole answer.", Response),
        stream=Stream(description=_ENDS_WHOLE, events=(ResponseEvent,), done=False),
        errors=_OF_AN_ANSWER,
    ),
    "get_response": Operation(
        parameters={
            **_RESPONSE,
            "stream": Parameter("A stored answer is not streamed: only false.", {"enum": [False]}),
        },
        replies=_replies("The answer, without log-probabilities.", Response),
        errors=_OF_A_RESPONSE,
    ),
    "delete_response": Operation(parameters=_RESPONSE, replies=_replies("It is gone.", Deleted), errors=_OF_A_RESPONSE),
    "list_input_items": Operation(
        parameters={**_RESPONSE, "after": _AFTER, "limit": _limit(MOST_ITEMS), "order": _ORDER},
        replies=_replies("A page of what it answered, the conversation before it included.", InputItems),
        errors=_OF_A_RESPONSE,
    ),
    "embeddings": Operation(body=EmbeddingsRequest, replies=(), errors=_OF_A_MODEL),
    "list_models": Operation(
        replies=_replies("The base, each adapter's alias, each loaded version.", ModelList), errors=(Unavailable,)
    ),
    "get_model": Operation(
        parameters=_MODEL,
        replies=_replies("The name, and the version that answers to it.", ModelCard),
        errors=_OF_A_MODEL,
    ),
    "delete_model": Operation(
        parameters=_MODEL,
        replies=_replies("It is served no more.", Deleted),
        errors=(NotOwner, Conflict, *_OF_A_MODEL),
    ),
    "upload_file": Operation(
        form={
            "type": "object",
            "properties": {
                "file": {
                    "type": "string",
                    "contentMediaType": "application/octet-stream",
                    "description": "Rows as JSONL.",
                },
                "purpose": {"enum": [PURPOSE]},
                "expires_after[anchor]": {"enum": ["created_at"]},
                "expires_after[seconds]": {"type": "integer", "minimum": EXPIRES[0], "maximum": EXPIRES[1]},
            },
            "required": ["file", "purpose"],
        },
        replies=_replies("The file, checked and stored.", FileObject),
        errors=(Overloaded, Unavailable),
    ),
    "list_files": Operation(
        parameters={
            "after": _AFTER,
            "limit": _limit(MOST_FILES),
            "order": _ORDER,
            "purpose": Parameter("Only files of this purpose."),
        },
        replies=_replies("A page of the caller's files.", Listing[FileObject]),
        errors=_OF_A_FILE,
    ),
    "get_file": Operation(parameters=_FILE, replies=_replies("The file.", FileObject), errors=_OF_A_FILE),
    "get_file_content": Operation(
        parameters=_FILE,
        replies=(Reply(description="Its bytes.", media_type="application/octet-stream"),),
        errors=_OF_A_FILE,
    ),
    "delete_file": Operation(parameters=_FILE, replies=_replies("It is gone.", Deleted), errors=_OF_A_FILE),
    "create_job": Operation(
        body=CreateJob,
        replies=_replies("The job, at the queue's end.", JobObject),
        errors=(ModelForbidden, Unavailable),
    ),
    "list_jobs": Operation(
        parameters=_JOBS_PAGE,
        replies=_replies("A page of jobs, newest first.", Listing[JobObject]),
        errors=_OF_A_JOB,
    ),
    "get_job": Operation(parameters=_JOB, replies=_replies("The job as it stands.", JobObject), errors=_OF_A_JOB),
    "cancel_job": _change("The job, which ends as soon as it can."),
    "pause_job": _change("The job, which stops as soon as it can."),
    "resume_job": _change("The job, in the queue again."),
    "list_events": Operation(
        parameters={**_JOB, **_JOBS_PAGE},
        replies=_replies("A page of events, newest first.", Listing[EventObject]),
        errors=_OF_A_JOB,
    ),
    "list_checkpoints": Operation(
        parameters={**_JOB, **_JOBS_PAGE},
        replies=_replies("A page of models that can be asked for.", Listing[CheckpointObject]),
        errors=_OF_A_JOB,
    ),
    "livez": Operation(replies=_replies("It runs.", Alive)),
    "readyz": Operation(
        replies=(
            Reply(
                description="Requests are answered; details for this machine or with an admin's key.", schema=Readiness
            ),
            Reply(description="Requests are not answered now.", schema=Readiness, status=Unavailable.status),
        ),
        optional_key=True,
    ),
    "metrics": Operation(
        replies=(Reply(description="Prometheus' text format.", media_type=CONTENT_TYPE.partition(";")[0]),),
        errors=(InvalidApiKey, RoleMissing),
        optional_key=True,
    ),
    "openapi_json": Operation(replies=_replies("An OpenAPI document.", dict[str, Any])),
}
