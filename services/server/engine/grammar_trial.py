"""A process in which a schema's grammar is tried out before the engine sees it, each in a fork of its own that may be killed.

The engine's compiler cannot be interrupted, and a few characters can keep it busy for hours. Here it works on a sample of the
vocabulary, for as much CPU time as is allowed: what an answer of some steps costs there is a fraction of what it costs the engine.
Reads lines of JSON from ``trials.Trials``, and answers each; ends when its input does.
"""

import json
import multiprocessing
import os
import resource
import selectors
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import xgrammar

_SAMPLE = 4096  # tokens: of 150,000 so many cost about a thirtieth
_STEPS = 100  # of an answer, whose masks the engine makes between its steps
_AT_ONCE = 2
_MEMORY = 2 * 2**30
_PATIENCE = 30  # times the CPU time, until a fork that only waits is ended
_CHUNK = 65536
_NICE = 5  # the engine first, where it needs all cores


def main(folder: Path, seconds: float) -> None:
    """Answer until the input ends.

    Args:
        folder: the base model's, for its tokenizer.
        seconds: of CPU time that one grammar may take.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the server ends this process by closing its input
    with multiprocessing.get_context("fork").Pool(1) as pool:
        tokens = pool.apply(_sample, (folder,))
    vocabulary = xgrammar.TokenizerInfo([b"<end>", *tokens], stop_token_ids=[0])
    running: dict[int, int] = {}  # process id of a fork -> the question's number
    waiting, text = [], b""
    ended, heard = os.pipe()
    os.set_blocking(heard, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(heard)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    try:
        while True:
            for ready, _ in selector.select():
                chunk = os.read(ready.fd, _CHUNK)
                if ready.fd == ended:
                    for pid, fits in _ended(list(running)):
                        os.write(1, b"%d %d\n" % (running.pop(pid), fits))
                elif chunk:
                    *lines, text = (text + chunk).split(b"\n")
                    waiting += lines
                else:
                    return
            while waiting and len(running) < _AT_ONCE:
                number, kind, spec = json.loads(waiting.pop(0))
                running[_fork(partial(_try, vocabulary, kind, spec), seconds)] = number
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)


def _ended(running: list[int]) -> Iterator[tuple[int, bool]]:
    """Of these forks the ones that ended, and whether by themselves."""
    for pid in running:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            yield pid, status == 0


def _sample(folder: Path) -> list[bytes]:
    """Tokens enough to say what all would: evenly drawn, and all that are one byte."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - 140 MB, which a process that only does this gives back

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokens = [token for token in xgrammar.TokenizerInfo.from_huggingface(tokenizer).decoded_vocab if token]
    drawn = tokens[:: max(1, len(tokens) // _SAMPLE)] + [bytes([byte]) for byte in range(256)]
    return list(dict.fromkeys(drawn))


def _fork(work: Callable[[], None], seconds: float) -> int:
    """Have a fork do ``work`` within its limits; its process id."""
    if pid := os.fork():
        return pid
    try:
        os.nice(_NICE)
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # what a compiler says may hold the schema
            os.dup2(silence, descriptor)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        memory = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.setitimer(signal.ITIMER_PROF, seconds)  # ends it; RLIMIT_CPU has whole seconds alone
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE * seconds)
        work()
    except MemoryError:
        os._exit(1)
    except BaseException:  # noqa: BLE001 - what is wrong with a schema, vLLM says itself
        os._exit(0)
    os._exit(0)


def _try(vocabulary: Any, kind: str, spec: str) -> None:
    """Compile as vLLM's backend does with this server's settings, and walk through an answer."""
    compiler = xgrammar.GrammarCompiler(vocabulary)
    if kind == "json":
        grammar = compiler.compile_json_schema(spec, any_whitespace=False, separators=(",", ":"))
    else:
        grammar = compiler.compile_structural_tag(spec)
    matcher = xgrammar.GrammarMatcher(grammar)
    mask = xgrammar.allocate_token_bitmask(1, vocabulary.vocab_size)
    for step in range(_STEPS):
        matcher.fill_next_token_bitmask(mask)
        words = mask[0].tolist()
        allowed = [token for token in range(1, vocabulary.vocab_size) if words[token // 32] >> token % 32 & 1]
        if not allowed or not matcher.accept_token(allowed[step * 7919 % len(allowed)]):
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
