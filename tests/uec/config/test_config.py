"""The schema: every field is documented, and reading it imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from uec.config.fields import did_you_mean, fields, is_section, type_of, type_text
from uec.config.schema import Config
from uec.config.validate import validate


def test_every_field_has_a_docstring(project: Path) -> None:
    module = ast.parse((project / "uec/config/schema.py").read_text())
    bare = []
    for section in (node for node in module.body if isinstance(node, ast.ClassDef)):
        for field, below in zip(section.body, [*section.body[1:], ast.Pass()], strict=True):
            documented = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
            prefix = {"Config": "", "DataConfig": "data."}.get(section.name)
            is_section_field = prefix is not None and isinstance(field, ast.AnnAssign) and is_section(prefix + ast.unparse(field.target))
            if isinstance(field, ast.AnnAssign) and not documented and not is_section_field:
                bare.append(f"{section.name}.{ast.unparse(field.target)}")
    assert bare == []


def test_the_defaults_alone_are_in_range() -> None:
    cfg = Config()
    cfg.model.path, cfg.data.train = "m", "t"
    assert validate(cfg) is None  # raises if a default is out of range


def test_reading_and_checking_a_config_imports_nothing_heavy(project: Path) -> None:
    program = (
        "import sys; from uec.config.file import load_config; from uec.config.validate import validate\n"
        "import uec.run_folder, uec.system.process_env\n"
        "validate(load_config('configs/llm.yaml', []))\n"
        "print([name for name in ('torch', 'ray', 'vllm', 'transformers', 'deepspeed', 'wandb', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_and_types_are_known_by_their_dotted_key() -> None:
    assert is_section("rollout") and not is_section("rollout.n") and not is_section("nothing")
    assert type_of("rollout.n") is int
    assert type_of("reward.weights.anything") is float
    assert type_of("rollout.nothing") is None
    assert type_text(type_of("replay.capacity")) == "a whole number or null"


@pytest.mark.parametrize("key", [key for key in fields() if "." in key])
def test_an_extra_letter_in_any_field_suggests_that_field(key: str) -> None:
    assert f"did you mean {key}?" in did_you_mean(f"{key}x")
