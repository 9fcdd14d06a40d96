"""Write the lock files anew from pyproject.toml: exact versions and hashes, and nothing about where they came from.

run.txt is what `make run` installs, development.txt that and the tools, engine.txt what the compiled engine adds, extra-NAME.txt
what `make run EXTRAS=NAME` adds, extra-chroma.txt a vector store for the tests, installer.txt the installer itself.

torch is locked without CUDA, whose libraries are several gigabytes: the wheels are those of PyTorch's own index of CPU builds, and
what only CUDA needs is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from install import CPU_BUILDS, find_uv

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "pyproject.toml"
UV = [find_uv() or sys.exit("make lock needs uv"), "pip", "compile", "--quiet", "--generate-hashes", "--universal"]
UV += ["--python-version", "3.11", "--upgrade"]
UV += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
RUN = ["--extra", "engine-prebuilt", "--extra", "embedded"]
INSTALLER = "uv>=0.13"
CHROMA = "chromadb==1.5.9"
"""Only its server, for the tests: what its client needs of others is left out."""
CLIENTS = {
    "clients-openai3": "openai>=3.50 anthropic>=2.12 ollama langchain-openai>=1.7 langchain-anthropic>=1.7 langchain-ollama "
    "pydantic-ai-slim[openai,anthropic]>=2.60 llm>=0.36",
    # litellm imports mcp without asking for it.
    "clients-openai2": "llama-index-llms-openai-like>=0.5 llama-index-embeddings-openai>=0.5 instructor>=1.17 litellm>=1.105 mcp",
}
"""Other people's libraries, by the version of OpenAI's that they can live with; `make clients` asks through them."""
EXTRAS = ("sso", "alerts", "telemetry", "transformers")
CUDA = ("nvidia-", "cuda-", "triton")
CPU_WHEEL = r'torch-{version}-cp31[1-4]-cp31[1-4]-{system}[^"#]*\.whl#sha256=([0-9a-f]{{64}})'
CPU_BLOCKS = (
    ("{version}+cpu ; sys_platform == 'linux'", "{version}%2Bcpu", "manylinux"),
    ("{version} ; sys_platform == 'darwin'", "{version}", "macosx"),
)
"""A pin, and how its wheels' versions and systems are written. Only Linux has builds with CUDA to be told from."""


def main() -> None:
    run, same = HERE / "run.txt", ["--constraints", str(HERE / "run.txt")]
    compile_lock([str(PROJECT), *RUN], run)
    compile_lock([str(PROJECT), *RUN, "--extra", "dev", *same], HERE / "development.txt")
    with tempfile.TemporaryDirectory() as folder:
        source, whole = Path(folder) / "installer.in", Path(folder) / "engine.txt"
        source.write_text(INSTALLER + "\n")
        compile_lock([str(source)], HERE / "installer.txt")
        for name, wanted in CLIENTS.items():
            source.write_text("\n".join(wanted.split()) + "\n")
            compile_lock([str(source)], HERE / f"{name}.txt")
        source.write_text(CHROMA + "\n")
        compile_lock([str(source), "--no-deps"], HERE / "extra-chroma.txt")
        compile_lock([str(PROJECT), "--extra", "engine", *same], whole)
        write_added(whole, HERE / "engine.txt")
        for extra in EXTRAS:
            lock_extra(extra, whole)
    for lock in HERE.glob("*.txt"):
        if re.search(r"://|\bfile:|--(extra-)?index", lock.read_text()):
            sys.exit(f"{lock.name} names an address; lock files hold names, versions and hashes only")
        print(f"{lock.name}: {len(names(lock.read_text()))} distributions")


def lock_extra(extra: str, whole: Path) -> None:
    """What an extra adds to run.txt, in the versions that the tests ran with."""
    compile_lock([str(PROJECT), "--extra", extra, "--constraints", str(HERE / "development.txt")], whole)
    lock = HERE / f"extra-{extra}.txt"
    before = lock.read_text() if lock.exists() else ""
    write_added(whole, lock)
    lock.write_text("".join(lean(block, before) for block in blocks(lock.read_text())))


def lean(block: str, before: str) -> str:
    """The block without CUDA. torch keeps the hashes that the lock had of this version, else they are read from the index."""
    name, _, rest = block.partition("==")
    if name.startswith(CUDA):
        return ""
    if name != "torch":
        return block
    version = rest.split()[0]
    kept = [old for old in blocks(before) if re.match(rf"torch=={re.escape(version)}[+ ]", old)]
    return "".join(kept) or cpu_builds(version)


def cpu_builds(version: str) -> str:
    with urllib.request.urlopen(f"{CPU_BUILDS}/torch/") as page:
        text = page.read().decode()
    made = ""
    for pin, written, system in CPU_BLOCKS:
        wheel = CPU_WHEEL.format(version=re.escape(written.format(version=version)), system=system)
        hashes = sorted(set(re.findall(wheel, text))) or sys.exit(f"{CPU_BUILDS} has no torch {version} for {system}")
        made += (
            " \\\n    ".join([f"torch=={pin.format(version=version)}", *(f"--hash=sha256:{each}" for each in hashes)])
            + "\n"
        )
    return made


def write_added(whole: Path, lock: Path) -> None:
    have = names((HERE / "run.txt").read_text())
    lock.write_text("".join(block for block in blocks(whole.read_text()) if block.split("==")[0] not in have))


def compile_lock(sources: list[str], output: Path) -> None:
    output.unlink(missing_ok=True)
    subprocess.run([*UV, *sources, "--output-file", str(output)], check=True)


def blocks(lock: str) -> list[str]:
    """One text for each distribution: its pin and the lines of hashes below it."""
    return [block for block in re.split(r"(?m)^(?=\S)", lock) if "==" in block]


def names(lock: str) -> set[str]:
    return {block.split("==")[0] for block in blocks(lock)}


if __name__ == "__main__":
    main()
