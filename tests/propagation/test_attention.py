"""Long-term attention: memory frames apart give what their tokens together give."""

import torch

from vots_hqtrack.propagation.attention import GatedOutput, memory_attention


def test_frames_apart_equal_tokens_together() -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 5, 6, 8)
    keys = [torch.randn(2, 5, 6, 8) for _ in range(3)]
    values = [torch.randn(2, 5, 6, 5) for _ in range(3)]
    tokens = query.flatten(1, 2)
    together = (tokens @ torch.cat(keys, 1).flatten(1, 2).mT / 8**0.5).softmax(-1)
    expected = (together @ torch.cat(values, 1).flatten(1, 2)).unflatten(1, (5, 6))
    torch.testing.assert_close(memory_attention(query, keys, values), expected)


def test_order_of_memory_does_not_matter() -> None:
    torch.manual_seed(0)
    query = torch.randn(1, 3, 4, 8)
    keys, values = torch.randn(3, 1, 3, 4, 8), torch.randn(3, 1, 3, 4, 5)
    forward = memory_attention(query, list(keys), list(values))
    backward = memory_attention(query, list(keys.flip(0)), list(values.flip(0)))
    torch.testing.assert_close(forward, backward)


def test_with_and_without_gradients_agree() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, *shape) for shape in ((5, 8, 4), (3, 3, 4), (3, 3, 3)))
    with torch.no_grad():
        without = memory_attention(query, [key], [value])
    torch.testing.assert_close(without, memory_attention(query, [key], [value]))


def test_gated_output_by_hand() -> None:
    """A kernel that copies the right neighbour, then a sum over the channels."""
    layer = GatedOutput(2, 1)
    with torch.no_grad():
        layer.depthwise.weight.zero_()
        layer.depthwise.weight[:, :, 2, 3] = 1
        layer.projection.weight.fill_(1)
        layer.projection.bias.zero_()
    found = layer(torch.arange(6.0).repeat(2, 1).T.reshape(1, 2, 3, 2))
    assert found.flatten().tolist() == [2, 4, 0, 8, 10, 0]
