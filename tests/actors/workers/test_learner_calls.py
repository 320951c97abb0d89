"""What a LearnerActor does around its engine, with stand-ins for engine and publisher."""

from actors.workers.learner import environment
from uec.config.schema import Config


def test_a_learners_process_prefers_other_attention_kernels_to_cudnns():
    # torch reads it in sdp_utils.cpp (check_prefer_cudnn_attention), once per process.
    assert environment(Config(), 0)["TORCH_CUDNN_SDPA_DEPRIORITIZED"] == "1"
