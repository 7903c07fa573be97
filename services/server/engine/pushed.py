"""vLLM's AsyncLLM with answers that are pushed: each engine step puts what a request gained into its inbox, which wakes its reader.

AsyncLLM's own way makes two objects of an output, passes them through an event and two generators, and keeps statistics of each
token; here a step costs a request one small object and one wake-up, however many steps came since it was read. What happens to a
request before (its checks) and to its tokens after (stops, log-probabilities, detokenizing where tokens are no bytes) stays vLLM's.
"""

from copy import copy
from typing import Any, Self

from vllm.envs import enable_envs_cache
from vllm.inputs import tokens_input
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer, uses_fast_detokenizer
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput, RequestState
from vllm.v1.engine.parallel_sampling import ParentRequest

from services.server.engine.byte_tokens import ByteTokens, TextStream
from services.server.engine.inbox import Inbox
from services.server.engine.positions import positions_of, prompt_positions_of
from services.server.engine.protocol import Delta, Take


class ByteDetokenizer(BaseIncrementalDetokenizer):  # type: ignore[misc]  # vLLM's types are not followed
    """vLLM's detokenizer, its stop strings and the text held back for them, on ``TextStream``."""

    def __init__(self, request: EngineCoreRequest, stream: TextStream) -> None:
        super().__init__(request)
        self._stream = stream

    def decode_next(self, next_token_id: int) -> str:
        """See ``BaseIncrementalDetokenizer.decode_next``."""
        return self._stream.step(next_token_id)


class StepProcessor(OutputProcessor):  # type: ignore[misc]  # as above
    """Turns each output of an engine step into one delta in its request's inbox. It keeps no statistics of iterations."""

    def __init__(self, tokenizer: Any, *, log_stats: bool) -> None:
        super().__init__(tokenizer, log_stats=log_stats)
        fit = uses_fast_detokenizer(tokenizer) and ByteTokens.fit(tokenizer.backend_tokenizer)
        self._byte_tokens = ByteTokens(tokenizer.backend_tokenizer) if fit else None

    def add_request(self, request: EngineCoreRequest, *arguments: Any, **options: Any) -> None:
        """See ``OutputProcessor.add_request``."""
        super().add_request(request, *arguments, **options)
        skip = request.sampling_params.skip_special_tokens
        if self._byte_tokens and (
            stream := self._byte_tokens.stream(request.prompt_token_ids, skip_special_tokens=skip)
        ):
            self.request_states[request.request_id].detokenizer = ByteDetokenizer(request, stream)

    def process_outputs(self, engine_core_outputs: list[EngineCoreOutput], *_: Any, **__: Any) -> OutputProcessorOutput:
        """See ``OutputProcessor.process_outputs``."""
        aborted = []
        for output in engine_core_outputs:
            state = self.request_states.get(output.request_id)
            if state is None:
                continue  # aborted before
            if state.is_prefilling:
                state.is_prefilling = False
                if output.prefill_stats is not None:
                    state.num_cached_tokens = output.prefill_stats.num_cached_tokens
            inbox: Any = state.queue
            delta = self._delta(state, output)
            if delta.finish_reason is not None:
                if state.parent_req is not None:
                    state.parent_req.child_requests.discard(state.request_id)
                self._finish_request(state)
                self.lora_states.request_finished(state.request_id, state.lora_name)
                if not output.finished:  # a stop string, which only the text shows
                    aborted.append(output.request_id)
            inbox.add(delta)
        return OutputProcessorOutput(request_outputs=[], reqs_to_abort=aborted)

    def _delta(self, state: RequestState, output: EngineCoreOutput) -> Delta:
        detokenizer: Any = state.detokenizer  # None only for what generates no text
        logprobs: Any = state.logprobs_processor
        reason = output.finish_reason
        before = detokenizer.num_output_tokens()
        if detokenizer.update(output.new_token_ids, reason == FinishReason.STOP):
            reason = FinishReason.STOP
            self._trim_surplus_tokens(state, output, before)
        tokens = output.new_token_ids
        positions = prompt_positions = None
        if logprobs.num_logprobs is not None or logprobs.num_prompt_logprobs is not None:
            logprobs.update_from_output(output)
            if logprobs.logprobs is not None:
                positions = positions_of(tokens, logprobs.logprobs[-len(tokens) :] if tokens else [])
            if scored := logprobs.pop_prompt_logprobs():
                prompt_positions = prompt_positions_of(self.tokenizer, state.prompt_token_ids, scored)
        return Delta(
            index=state.request_index,
            text=detokenizer.get_next_output_text(reason is not None, delta=True),
            tokens=len(tokens),
            finish_reason=None if reason is None else str(reason),
            positions=positions,
            cached_tokens=state.num_cached_tokens,
            prompt_positions=prompt_positions,
            token_ids=tokens,
        )


class PushingLLM(AsyncLLM):  # type: ignore[misc]  # as above
    """AsyncLLM with a way to generate that pushes."""

    @classmethod
    def begin_with(cls, arguments: Any) -> Self:
        """Start the engine; blocks for tens of seconds."""
        llm: Self = cls.from_engine_args(arguments)
        enable_envs_cache()  # as the engine's process does: each request reads some
        end = llm.renderer.get_eos_token_id()
        llm.renderer.get_eos_token_id = lambda: end  # each request asks, and transformers looks for it anew
        # In place before the first request, which starts what calls it.
        llm.output_processor = StepProcessor(llm.renderer.tokenizer, log_stats=False)
        return llm

    async def begin(
        self,
        request_id: str,
        prompt: list[int],
        parameters: SamplingParams,
        lora_request: LoRARequest | None,
        *,
        take: Take | None = None,
        reasoning_ended: bool | None = None,
        reasoning_parser_kwargs: dict[str, Any] | None = None,
    ) -> Inbox:
        """Have the engine answer a prompt. Who leaves before the inbox has ended aborts the request by the inbox's name.

        Raises:
            VLLMClientError: the parameters do not fit the model.
            EngineDeadError: the engine died.
        """
        if self.errored:
            raise EngineDeadError
        request = self.input_processor.process_inputs(
            request_id,
            tokens_input(prompt),
            parameters,
            supported_tasks=await self.get_supported_tasks(),
            lora_request=lora_request,
        )
        request.reasoning_ended = reasoning_ended
        request.reasoning_parser_kwargs = reasoning_parser_kwargs
        request.external_req_id = request_id  # no two are alike: vLLM's own letters behind it are not needed
        self._run_output_handler()
        inbox = Inbox(request.request_id, parameters.n, take)
        queue: Any = inbox  # as far as vLLM uses it
        children = [request]
        if parameters.n == 1:
            self.output_processor.add_request(request, None, None, 0, queue)
        else:
            parent = ParentRequest(request)
            children = [copy(request) for _ in range(parameters.n)]
            for index, child in enumerate(children):
                child.request_id, child.sampling_params = parent.get_child_info(index)
                self.output_processor.add_request(child, None, parent, index, queue)
        try:
            for child in children:
                await self.engine_core.add_request_async(child)
        except BaseException:
            await self.abort(inbox.request_id, internal=True)
            raise
        return inbox
