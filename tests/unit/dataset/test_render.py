"""What is learnt is exactly the answers and their ends, whatever the template; a template that cannot say so is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dataset.faults import DataRefused, Fault
from services.dataset.render import Renderer
from services.dataset.rows import NOT_LEARNT, Example, Message, Row, content_hash
from tests.support.tokenizers import CHATML, ENDS, FORGETFUL, GEMMA, LLAMA, STRICT, byte_tokenizer

SECRET = "Geheimnis-4711"
PAIR = (Message("user", "노루담은 언제 생겼나요?"), Message("assistant", "1963년입니다. 🪨"))
TWO = (*PAIR, Message("user", "b"), Message("assistant", "c"))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="<>\0"), min_size=1, max_size=40).filter(str.strip)
TOKENIZERS = {template: byte_tokenizer(template) for template in (CHATML, LLAMA, GEMMA)}
SPACE, NEW_LINE = "\u0120", "\u010a"  # in the byte alphabet of BPE


def render(*messages: Message, tokenizer: Any = None, learn_all: bool = False) -> Example | Fault:
    chosen = tokenizer or TOKENIZERS[CHATML]
    renderer = Renderer(chosen, frozenset({chosen.eos_token_id}), learn_all=learn_all)
    [result] = renderer.examples([Row(messages=messages, file="a.jsonl", line=7, format="messages")])
    return result


def example(*messages: Message, tokenizer: Any = None, learn_all: bool = False) -> Example:
    result = render(*messages, tokenizer=tokenizer, learn_all=learn_all)
    assert isinstance(result, Example)
    return result


def learnt(of: Example, tokenizer: Any = None) -> str:
    tokens = [token for token, label in zip(of.input_ids, of.labels, strict=True) if label != NOT_LEARNT]
    return str((tokenizer or TOKENIZERS[CHATML]).decode(tokens))


@pytest.mark.parametrize("template", [CHATML, LLAMA, GEMMA], ids=["chatml", "llama", "gemma"])
@given(turns=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4), system=st.none() | TEXTS)
def test_exactly_the_answers_and_their_ends_are_learnt(
    template: str, turns: list[tuple[str, str]], system: str | None
) -> None:
    tokenizer = TOKENIZERS[template]
    messages = [Message("system", system)] if system else []
    for question, answer in turns:
        messages += [Message("user", question), Message("assistant", answer)]
    made = example(*messages, tokenizer=tokenizer)
    trimmed = (answer if template == CHATML else answer.strip() for _, answer in turns)
    assert learnt(made, tokenizer) == "".join(text + ENDS[template] for text in trimmed)
    assert tokenizer.decode(made.input_ids) == Renderer(tokenizer, frozenset({0}), learn_all=False).text(messages)
    kept = made.labels != NOT_LEARNT
    assert (made.labels[kept] == made.input_ids[kept]).all()


def test_an_example_carries_the_hash_of_its_rows_content() -> None:
    assert example(*PAIR).row_hash == content_hash(PAIR)
    assert example(*TWO).row_hash != content_hash(PAIR)


@pytest.mark.parametrize("answer", [" x", "\nx", "\n\n  x", "x"])
def test_a_prompt_is_encoded_as_the_server_encodes_it_however_the_answer_begins(answer: str) -> None:
    tokenizer = byte_tokenizer(CHATML, merges=[(NEW_LINE, NEW_LINE), (NEW_LINE, SPACE), (SPACE, SPACE)])
    messages = (Message("user", "a"), Message("assistant", answer), Message("user", "b"), Message("assistant", answer))
    made = example(*messages, tokenizer=tokenizer)
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}), learn_all=False)
    prompt = tokenizer(renderer.text(messages[:1], answer_next=True), add_special_tokens=False)["input_ids"]
    assert made.input_ids[: len(prompt)].tolist() == prompt
    assert learnt(made, tokenizer) == f"{answer}<|im_end|>" * 2
    assert tokenizer.decode(made.input_ids) == renderer.text(messages)


@pytest.mark.parametrize("learn_all", [False, True])
def test_a_turn_of_weight_zero_is_read_but_never_learnt(learn_all: bool) -> None:  # noqa: FBT001 - a parameter
    wrong = Message("assistant", "wrong", learn=False)
    made = example(
        Message("user", "a"), wrong, Message("user", "b"), Message("assistant", "right"), learn_all=learn_all
    )
    assert "wrong" in TOKENIZERS[CHATML].decode(made.input_ids)
    assert "wrong" not in learnt(made)
    assert learnt(made).removesuffix("\n").endswith("right<|im_end|>")


def test_loss_on_all_learns_every_token() -> None:
    made = example(*PAIR, learn_all=True)
    assert made.supervised == len(made.input_ids)


def test_a_template_that_rewrites_earlier_turns_is_a_fault_of_the_rows_that_it_rewrites() -> None:
    tokenizer = byte_tokenizer(FORGETFUL)
    fault = render(*TWO, tokenizer=tokenizer)
    assert isinstance(fault, Fault)
    assert "a.jsonl:7: the base model's chat template rewrites earlier turns" in str(fault)
    assert learnt(example(*PAIR, tokenizer=tokenizer), tokenizer) == PAIR[1].content + "<|im_end|>"


def test_a_template_that_refuses_a_system_message_is_a_fault_without_the_templates_words() -> None:
    tokenizer = byte_tokenizer(STRICT)
    fault = render(Message("system", SECRET), *PAIR, tokenizer=tokenizer)
    assert isinstance(fault, Fault)
    assert "a.jsonl:7: the base model's chat template refuses the row's roles" in str(fault)
    assert SECRET not in str(fault)
    assert example(*PAIR, tokenizer=tokenizer).supervised


def test_rows_and_faults_of_one_batch_keep_their_order() -> None:
    tokenizer = byte_tokenizer(FORGETFUL)
    renderer = Renderer(tokenizer, frozenset({tokenizer.eos_token_id}), learn_all=False)
    rows = [
        Row(messages=TWO if line % 3 else PAIR, file="a.jsonl", line=line, format="messages") for line in range(1, 1200)
    ]
    results = list(renderer.examples(rows))
    assert [item.line for item in results if isinstance(item, Fault)] == [line for line in range(1, 1200) if line % 3]
    assert len(results) == len(rows)


def test_a_template_whose_answers_never_stop_is_refused() -> None:
    renderer = Renderer(TOKENIZERS[CHATML], frozenset({99_999}), learn_all=False)
    with pytest.raises(DataRefused, match="no token at which an engine stops"):
        list(renderer.examples([Row(messages=PAIR, file="a.jsonl", line=1, format="messages")]))


def test_a_base_without_a_chat_template_is_refused() -> None:
    with pytest.raises(DataRefused, match="the base model: has no chat template"):
        Renderer(byte_tokenizer(None), frozenset({0}), learn_all=False)
