"""Which measurements of `uec doctor --gpu` are sound: each function returns the line of a check."""

from collections.abc import Mapping

from uec.doctor.check import Check, fail, mib, note, ok
from uec.models.logprob_gap import Gap

ROUNDING = 2.0  # times the error of padded rows that packed rows may have
LOSS = 0.01  # relative difference of two losses in bfloat16
FREED = 0.5  # share of the engine's memory that a sleep must free
RESTORED = 0.05  # share of the GPU by which memory may differ after a wake
LEAK = 64 << 20  # bytes by which memory may grow: blocks of the allocator
ABOVE = 1.1  # times the estimate that memory may reach
FAR_BELOW = 0.5  # share of the estimate below which it misleads
FOLLOWED = 0.5  # share of the learner's movement that the engine must show, at least
REPORT = "please report it, with the file of --json"


def attention(name: str, kind: str, numbers: Mapping[str, float]) -> Check:
    """Judge packed rows by padded rows: both differ from float32 by rounding, and by no more than a factor."""
    loss, plain = numbers["loss"], numbers["loss_padded"]
    error, rounding = numbers["gradient_error"], numbers["gradient_error_padded"]
    found = (
        f"loss {loss:.4f} and {plain:.4f} padded; gradients differ by {numbers['gradient_gap']:.2%}, "
        f"from float32 by {error:.2%} and {rounding:.2%} padded"
    )
    if not (abs(loss - plain) <= LOSS * abs(plain) and error <= ROUNDING * rounding):
        advice = f"set learner.shared_prefix=false for now: learner.attention={kind} is wrong here; {REPORT}"
        return fail(name, f"packed rows do not compute what padded rows do: {found}", advice)
    return ok(name, found)


def speed(name: str, padded_s: float, packed: Mapping[str, float], judges: bool) -> Check:
    """Judge the fastest kind of packed rows by padded rows. `judges`: a slower one is red."""
    if not packed:
        return fail(name, f"{padded_s:.2f} s padded, and no packed rows were timed", "the lines above say why")
    kind, best = min(packed.items(), key=lambda item: item[1])
    times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in packed.items())
    found = f"an update takes {times}, padded {padded_s:.2f} s: {kind} is {padded_s / best:.1f} times as fast"
    if judges and best > padded_s:
        return fail(name, f"packed rows are slower than padded ones: {found}", f"set learner.shared_prefix=false; {REPORT}")
    return ok(name, found)


def tokens(name: str, rate: float, found: str, least: float) -> Check:
    """Judge the engine's speed by a bound far below any supported GPU."""
    if rate < least:
        return fail(name, f"expected {least:g} tokens/s at least: {found}", "does another program use the GPU (`nvidia-smi`)?")
    return ok(name, found)


def sync(name: str, versions: int, nbytes: int, publish_s: float, take_s: float, grown: int) -> Check:
    """Judge the growth of GPU memory from the second version to the last."""
    found = f"{versions} versions of {mib(nbytes)}: publish {publish_s:.2f} s, take {take_s:.2f} s, memory grew by {mib(max(grown, 0))}"
    if grown > LEAK:
        return fail(name, f"each weight sync leaks memory: {found}", f"a long run will end out of memory; {REPORT}")
    return ok(name, found)


def gaps(name: str, gap: Gap, within: bool, learner_moved: float, engine_moved: float) -> Check:
    """Judge the probe: the gap is rounding, and the engine moves with the learner."""
    found = f"{gap}; an update moved the learner by {learner_moved:.2g} and the engine by {engine_moved:.2g}"
    if not within:
        return fail(name, f"engine and learner compute different models: {found}", f"try model.dtype=float32 to compare; {REPORT}")
    if not FOLLOWED * learner_moved <= engine_moved <= learner_moved / FOLLOWED:
        return fail(name, f"the engine does not follow the learner: {found}", f"its weights are stale; {REPORT}")
    return ok(name, found)


def sleep(name: str, awake: int, asleep: int, restored: int, engine: float, device: float, gap: Gap, within: bool) -> Check:
    """Judge a sleep and a wake. `engine`: bytes that the engine may use; `device`: those of the GPU; `gap`: the largest after a wake."""
    found = f"{mib(awake)} awake, {mib(asleep)} asleep, {mib(restored)} after the wake; probe gap then {gap}"
    advice = f"set rollout.sleep=0; {REPORT}"
    if awake - asleep < FREED * engine:
        return fail(name, f"sleep frees too little memory: {found}, the engine has {mib(engine)}", advice)
    if abs(restored - awake) > RESTORED * device:
        return fail(name, f"a wake does not restore the memory: {found}", advice)
    if not within:
        return fail(name, f"the engine's weights are wrong after a wake: {found}", advice)
    return ok(name, found)


def peak(name: str, used: float, estimate: float) -> Check:
    """Judge the largest reading of the GPU's memory by the estimate of `uec train --dry-run`."""
    found = f"{mib(used)} used, {mib(estimate)} estimated"
    if used > ABOVE * estimate:
        return fail(name, f"the estimate of memory is too low: {found}", f"lower rollout.gpu_memory if a run does not fit; {REPORT}")
    if used < FAR_BELOW * estimate:
        return note(name, f"the estimate of memory is far too high: {found}", f"a run may fit although --dry-run doubts it; {REPORT}")
    return ok(name, found)


def parallel(name: str, gap: Gap, within: bool, found: str) -> Check:
    """Judge a tensor-parallel engine by the learner's log-probabilities."""
    if not within:
        wrong = f"a tensor-parallel engine computes another model: {found}, gap {gap}"
        return fail(name, wrong, f"use rollout.tensor_parallel=1; {REPORT}")
    return ok(name, f"{found}, gap {gap}")
