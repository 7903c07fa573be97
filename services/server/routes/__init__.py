"""The closed list of what is served."""

from services.server.routes.chat import chat_completions
from services.server.routes.completions import completions
from services.server.routes.embeddings import embeddings
from services.server.routes.files import delete_file, get_file, get_file_content, list_files, upload_file
from services.server.routes.fine_tuning import (
    cancel_job,
    create_job,
    get_job,
    list_checkpoints,
    list_events,
    list_jobs,
    pause_job,
    resume_job,
)
from services.server.routes.health import livez, readyz
from services.server.routes.metrics import metrics
from services.server.routes.models import delete_model, get_model, list_models
from services.server.routes.openapi import openapi_json
from services.server.routes.responses import create_response, delete_response, get_response, list_input_items

ROUTES = (
    chat_completions,
    completions,
    create_response,
    get_response,
    delete_response,
    list_input_items,
    embeddings,
    list_models,
    get_model,
    livez,
    readyz,
    metrics,
    delete_model,
    upload_file,
    list_files,
    get_file,
    get_file_content,
    delete_file,
    create_job,
    list_jobs,
    get_job,
    cancel_job,
    pause_job,
    resume_job,
    list_events,
    list_checkpoints,
    openapi_json,
)

__all__ = ["ROUTES"]
