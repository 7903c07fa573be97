"""A tokenizer that was loaded before it was wanted, and without torch, is the one that any process loads."""

import json
import subprocess
import sys
from pathlib import Path

from services.dataset.tokenizer import Tokenizers, load_tokenizer
from tests.conftest import REPOSITORY
from tests.support.tokenizers import save_base

TURNS = [{"role": "user", "content": "말 and 😀"}, {"role": "assistant", "content": " yes\n"}]
PROGRAM = """
import json, sys
from pathlib import Path
from services.dataset.tokenizer import Tokenizers
tokenizers, folder = Tokenizers(), Path(sys.argv[1])
tokenizers.get_ready(folder)
tokenizer = tokenizers(folder)
assert tokenizer is tokenizers(folder)
text = tokenizer.apply_chat_template(json.loads(sys.argv[2]), tokenize=False)
from datasets import Dataset
Dataset.from_dict({"input_ids": [tokenizer(text)["input_ids"]]}).save_to_disk(str(folder / "rows"))
print(json.dumps([text, tokenizer(text)["input_ids"], "torch" in sys.modules]))
"""


def test_a_tokenizer_without_torch_says_what_it_says_with_it(tmp_path: Path) -> None:
    """In a process of its own, which goes on without torch, and prints nothing of that."""
    folder = save_base(tmp_path)
    words = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(TURNS)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    tokenizer = load_tokenizer(folder)
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert json.loads(done.stdout) == [text, tokenizer(text)["input_ids"], False]
    assert "PyTorch" not in done.stderr


def test_another_base_models_tokenizer_is_not_the_one_that_is_ready(tmp_path: Path) -> None:
    tokenizers, folders = Tokenizers(), [save_base(tmp_path / name) for name in ("one", "two")]
    tokenizers.get_ready(folders[0])
    assert tokenizers(folders[0]) is tokenizers(folders[0])
    assert tokenizers(folders[1]) is not tokenizers(folders[0])
