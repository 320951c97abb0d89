"""`uec train CONFIG --dry-run`: reads and checks all inputs of a run. No actor starts, and nothing is written.

The model needs only its config.json and its tokenizer: its weights may be missing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

from rich.console import Console

from actors.programs.preflight import check_resume, dropped, preflight
from actors.runtime.cluster import local_cpus
from uec.config.schema import Config
from uec.config.validate import check_cluster, check_disk, makes_pairs, notes
from uec.data.dataset import Dataset
from uec.doctor.devices import free_memory
from uec.doctor.ray_state import would_join
from uec.errors import BadInput
from uec.memory.checkpoints import check_checkpoints
from uec.memory.memory_report import check_host, memory_report
from uec.memory.placement import resolve_placement
from uec.models.architecture import check_device
from uec.models.pretrained import check_weights_are_there, load_config
from uec.run_folder import RunFolder
from uec.system.gpu_devices import Gpu
from uec.system.platform import gpu_count, smallest_gpu


def dry_run(cfg: Config, config_path: str) -> int:
    """Check a validated config with its model's files, data, reward function and run folder; return the exit status. Raises BadInput."""
    folder = RunFolder.prepare(cfg, Path(config_path))
    check_disk(cfg, folder.path)
    dataset = preflight(cfg, weights=False)
    check_resume(cfg, folder, dataset)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{config_path} would run as {folder.path}")
    gpu, gpus = smallest_gpu(), gpu_count()
    chosen = _placement(cfg, gpus, gpu)
    for name, value in [*_data(dataset), *_step(cfg, dataset), *(("chosen here", line) for line in chosen)]:
        console.print(f"  {name:<24}  {value}", markup=False)
    _, machine = free_memory()
    lines, tight = memory_report(cfg, machine, gpu.bytes if gpu else None, [len(prompt.tokens) for prompt in dataset.train])
    for line in lines:
        console.print(f"  {line}", markup=False)
    refused = list(_refusals(cfg, dataset, folder.path, gpus))
    for note in [*notes(cfg), *dataset.notes, *dropped(dataset, cfg), *tight, *refused]:
        console.print(f"note: {note}", markup=False)
    passed = "all checks passed" if not refused else "a run would be refused here, for what is noted last; all other checks passed"
    console.print(f"{passed}; no actor was started, nothing was written")
    return 0


def _placement(cfg: Config, gpus: int, gpu: Gpu | None) -> list[str]:
    """Resolve the settings that depend on this machine's GPUs; return what was chosen, and why."""
    engines, ranks = cfg.rollout.engines * cfg.rollout.tensor_parallel, cfg.learner.ranks
    automatic = cfg.cluster.placement == "auto"
    chosen = resolve_placement(cfg, gpus, gpu)
    if automatic and not gpus and makes_pairs(cfg):
        chosen.append(f"cluster.placement=separate; on a cluster of fewer than {engines + ranks} GPUs engine and learner share one")
    return chosen


def _refusals(cfg: Config, dataset: Dataset, folder: Path, gpus: int) -> Iterator[str]:
    """Yield why a run would be refused. A local cluster, which a run would start, must hold the actors on this machine."""
    checks: list[tuple[str, Callable[[], object]]] = [
        ("", lambda: check_weights_are_there(cfg.model)),
        ("", lambda: check_checkpoints(cfg, folder)),
    ]
    if would_join(cfg)[0] is None:
        device = "cuda" if gpus else "cpu"
        checks.append((" on this machine", lambda: check_device(load_config(cfg.model), device, cfg.model.dtype)))
        checks.append((" on this machine", lambda: check_cluster(cfg, local_cpus(cfg), gpus, dataset.has_images)))
        if not gpus:
            lengths = [len(prompt.tokens) for prompt in dataset.train]
            checks.append((" on this machine", lambda: check_host(cfg, free_memory()[1], lengths)))
    for where, check in checks:
        try:
            check()
        except BadInput as error:
            yield f"a run would be refused{where}: {error}"


def _data(dataset: Dataset) -> list[tuple[str, str]]:
    rows = []
    for name, prompts in (("training prompts", dataset.train), ("held-out prompts", dataset.eval)):
        lengths = [len(prompt.tokens) for prompt in prompts]
        images = sum(len(prompt.images) for prompt in prompts)
        found = f"{len(prompts)}, {fmean(lengths):.0f} tokens on average, at most {max(lengths)}" if prompts else "none"
        rows.append((name, found + (f", {images} images" if images else "")))
    return rows


def _step(cfg: Config, dataset: Dataset) -> list[tuple[str, str]]:
    """Return upper bounds: every response has the maximum length, and every prompt is difficult."""
    prompts, rollout, longest = cfg.train.prompts_per_step, cfg.rollout, cfg.rollout.max_tokens
    regular = prompts * rollout.n * rollout.rounds
    hot = prompts * cfg.exploration.n if cfg.exploration.enabled else 0
    mean_prompt = fmean(len(prompt.tokens) for prompt in dataset.train)
    learned = (regular + hot) * longest + prompts * mean_prompt
    rows = [("regular responses a step", f"{regular}, at most {regular * longest} tokens")]
    if hot:
        rows.append(("exploration a step", f"at most {hot} responses, {hot * longest} tokens: if every prompt were difficult"))
    where = f"in micro-batches of {cfg.learner.micro_batch_tokens}, on {cfg.learner.ranks} rank(s)"
    rows.append(("an update", f"at most {learned:.0f} tokens, {where}"))
    return rows
