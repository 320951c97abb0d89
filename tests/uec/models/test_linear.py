"""Linear layers through oneDNN: the same numbers and gradients as PyTorch's."""

import pytest
import torch
from torch import nn

from uec.models.linear import OneDnnLinear, linear, with_onednn


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (1, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_pytorch(shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(5, 4, bias=bias)
    results = []
    for product in (linear, nn.functional.linear):
        layer.zero_grad()
        input = torch.arange(float(torch.Size(shape).numel())).sin().view(shape).requires_grad_()
        output = product(input, layer.weight, layer.bias)
        output.pow(2).sum().backward()
        results.append([output, input.grad, layer.weight.grad.clone(), *([layer.bias.grad.clone()] if bias else [])])
    for ours, theirs in zip(*results, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_inputs_that_are_not_contiguous_are_read_correctly():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    input = torch.randn(3, 6).t()
    torch.testing.assert_close(linear(input, layer.weight, layer.bias), nn.functional.linear(input, layer.weight, layer.bias))


def test_no_tokens_and_other_dtypes_use_pytorch():
    layer = nn.Linear(3, 2)
    assert linear(torch.empty(0, 3), layer.weight, layer.bias).shape == (0, 2)
    half = layer.to(torch.bfloat16)
    assert linear(torch.ones(1, 3, dtype=torch.bfloat16), half.weight, half.bias).dtype == torch.bfloat16


def test_a_frozen_layer_passes_gradients_on_and_has_none():
    layer = nn.Linear(3, 2).requires_grad_(False)
    input = torch.ones(4, 3, requires_grad=True)
    linear(input, layer.weight, layer.bias).sum().backward()
    torch.testing.assert_close(input.grad, layer.weight.sum(0).expand(4, 3))
    assert layer.weight.grad is None


def test_only_plain_linear_layers_of_a_model_change_and_keep_their_names():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(3, 3), Own(3, 3), nn.LayerNorm(3))
    names = list(model.state_dict())
    with_onednn(model)
    assert [type(layer) for layer in model] == [OneDnnLinear, Own, nn.LayerNorm]
    assert list(model.state_dict()) == names
