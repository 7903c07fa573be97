"""vLLM's scheduler with less work for an answer that merely goes on: a token before this step, a token after it, no block changes hands.

vLLM asks of every answer in every step whatever may be true of any: images, guessed tokens, grammars, transfers, pauses. On a busy
server that is most of what the engine's process does beside the model's own step (docs/decisions/0112). What merely goes on is told here; everything else,
and each step in which anything is scarce, is vLLM's, which finds the rest of the answers as it would find them alone.
"""

from copy import copy
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.request import RequestStatus

from services.server.engine.card.slots import QuickSlots


class LeanScheduler(AsyncScheduler):  # type: ignore[misc]  # vLLM's types are not followed
    """Plans and tells the same as ``AsyncScheduler``."""

    # vLLM's own, set while it plans what is not planned here
    running: list[Any]
    max_num_scheduled_tokens: int
    max_num_active_reqs: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._slots = QuickSlots.speed_up(self.kv_cache_manager)
        self._is_plain = (
            self._slots is not None
            and self.use_v2_model_runner
            and (self.pp_size, self.decode_stagger) == (1, 1)
            and (self.num_spec_tokens, self.num_lookahead_tokens, self.num_sampled_tokens_per_step) == (0, 0, 1)
            and self.connector is self.ec_connector is self.aux_output_connector is self.perf_metrics is None
            and not (self.defer_block_free or self.return_sampling_mask)
        )

    def add_request(self, request: Any) -> None:
        """See ``SchedulerInterface.add_request``; what of a request never changes is looked at here, once."""
        sampling = request.sampling_params
        request.adapter = request.lora_request.lora_int_id if request.lora_request is not None else 0
        request.ends = {sampling.eos_token_id, *(sampling.stop_token_ids or ())} if sampling is not None else set()
        request.is_simple = (
            sampling is not None
            and sampling.num_logprobs is sampling.prompt_logprobs is sampling.repetition_detection is None
            and request.structured_output_request is request.trace_headers is request.spec_decode_metrics is None
            and not (request.mm_features or request.resumable)
        )
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> Any:  # noqa: FBT001, FBT002 - vLLM's signature
        """See ``SchedulerInterface.schedule``."""
        running = self.running
        going_on, others = self._parted(running)
        if not going_on:
            return super().schedule(throttle_prefills)
        count, tokens, active = len(going_on), self.max_num_scheduled_tokens, self.max_num_active_reqs
        left = len(others)
        self.running = others  # to which vLLM adds what begins
        self.max_num_scheduled_tokens, self.max_num_active_reqs = tokens - count, active - count
        try:
            planned = super().schedule(throttle_prefills)
        finally:
            self.max_num_scheduled_tokens, self.max_num_active_reqs = tokens, active
        begun = others[left:]
        self.running = running
        _plan(planned, running, going_on)
        running += begun
        return planned

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """See ``SchedulerInterface.update_from_output``."""
        if (
            not self._is_plain
            or scheduler_output.scheduled_spec_decode_tokens
            or model_runner_output.num_nans_in_logits is not None
            or model_runner_output.kv_connector_output is not None
            or not model_runner_output.sampled_token_ids
        ):
            return super().update_from_output(scheduler_output, model_runner_output)
        told, others = self._told(scheduler_output.num_scheduled_tokens, model_runner_output)
        rest = copy(scheduler_output)
        rest.num_scheduled_tokens = others
        outputs: dict[int, Any] = super().update_from_output(rest, model_runner_output)
        for client, of_client in told.items():
            if client in outputs:
                outputs[client].outputs += of_client
            else:
                outputs[client] = EngineCoreOutputs(outputs=of_client)
        return outputs

    def _parted(self, running: list[Any]) -> tuple[set[str], list[Any]]:
        """Names of answers that merely go on, and the others with one of each adapter, by which vLLM knows which adapters the step holds.

        None goes on where a step's tokens or the blocks may be too few for all: there vLLM's order decides who waits.
        """
        slots = self._slots
        if (
            not self._is_plain
            or slots is None
            or self._pause_state != PauseState.UNPAUSED
            or len(running) > min(self.max_num_scheduled_tokens, self.kv_cache_manager.block_pool.get_num_free_blocks())
        ):
            return set(), running
        going_on: set[str] = set()
        adapters: set[int] = set()
        others = []
        held, size = slots.held, slots.block_size
        longest = self.max_model_len
        for request in running:
            if request.is_prefill_chunk:
                return set(), running
            name, computed, known = request.request_id, request.num_computed_tokens, len(request._all_token_ids)  # noqa: SLF001
            ahead = request.num_output_placeholders
            if (
                request.is_simple
                and known + ahead == computed + 1
                and (not ahead or computed + 2 - ahead < request.num_prompt_tokens + request.max_tokens)
                and computed + 2 <= longest
                and computed < len(held[name]) * size
            ):
                if request.adapter in adapters:
                    going_on.add(name)
                    continue
                adapters.add(request.adapter)
            others.append(request)
        return going_on, others

    def _told(self, scheduled: dict[str, int], output: Any) -> tuple[dict[int, list[Any]], dict[str, int]]:
        """Take in the tokens of answers that merely go on.

        Returns:
            what to tell each client, and what is scheduled of all other requests.
        """
        told: dict[int, list[Any]] = {}
        others: dict[str, int] = {}
        requests, places, sampled = self.requests, output.req_id_to_index, output.sampled_token_ids
        size, longest, is_running = self.hash_block_size, self.max_model_len, RequestStatus.RUNNING
        for name, count in scheduled.items():
            request = requests.get(name)
            if request is not None and request.is_simple and count == 1 and request.status is is_running:
                tokens, known = sampled[places[name]], request._all_token_ids  # noqa: SLF001 - append_output_token_ids
                said, length = request._output_token_ids, len(known) + 1  # noqa: SLF001 - does besides what a full block needs
                if (
                    len(tokens) == 1
                    and length % size
                    and length < longest
                    and len(said) + 1 < request.max_tokens
                    and tokens[0] not in request.ends
                    and request.prefill_stats is None
                    and not request.num_stale_output_tokens
                    and not request.events
                ):
                    said.append(tokens[0])
                    known.append(tokens[0])
                    request.num_in_flight_tokens -= 1
                    request.num_output_placeholders -= 1
                    told.setdefault(request.client_index, []).append(EngineCoreOutput(name, tokens))
                    continue
            others[name] = count
        return told, others


def _plan(planned: Any, running: list[Any], going_on: set[str]) -> None:
    """Add a token of each to what a step computes, as ``_make_cached_request_data`` and ``_update_after_schedule`` do, in the order of ``running``."""
    others, cached = planned.num_scheduled_tokens, planned.scheduled_cached_reqs
    of_others = zip(cached.new_block_ids, cached.num_computed_tokens, cached.num_output_tokens, strict=True)
    scheduled: dict[str, int] = {}
    rows = []
    for request in running:
        name = request.request_id
        if name in going_on:
            scheduled[name] = 1
            rows.append(
                (None, request.num_computed_tokens, request.num_output_tokens + request.num_output_placeholders)
            )
            request.num_computed_tokens += 1
            request.num_in_flight_tokens += 1
            request.num_output_placeholders += 1
        elif name in others:
            scheduled[name] = others[name]
            rows.append(next(of_others))
    cached.req_ids = list(scheduled)
    cached.new_block_ids, cached.num_computed_tokens, cached.num_output_tokens = map(list, zip(*rows, strict=True))
    planned.num_scheduled_tokens = scheduled | others  # with those that begin
    planned.total_num_scheduled_tokens += len(going_on)
